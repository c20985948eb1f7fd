"""How masters, agents and older executors talk: messages to actors, as HTTP requests that are answered with 202.

A request is `POST /ACTOR/NAME` with a message of protobuf as its body, and says who sent it in `Libprocess-From`
(libprocess, encoder.hpp and process.cpp). Between two processes, messages arrive in the order they were sent in.
"""
