"""The wire format: the messages of Mesos's v1 API, as protobuf, as JSON, and as records of a stream.

`protos` has the messages, by topic; their fields stand in the order in which Mesos writes them as JSON. `v1` has all of
them in one name space. What the messages mean to the containerizer is up to `convert`.
"""
