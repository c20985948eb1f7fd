"""The Container Network Interface, versions 0.1.0 to 1.0.0: configurations, plugins, and what they answer.

Source: the specification of CNI 1.0.0, and libcni where that is silent.
"""
