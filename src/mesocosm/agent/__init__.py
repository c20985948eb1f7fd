"""The agent: the containers of a machine as a service, with the flags and the HTTP interface of Mesos's."""
