"""What makes a root file system of the layers of an image."""
