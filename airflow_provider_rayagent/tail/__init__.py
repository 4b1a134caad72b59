"""Events in, a job's log lines out, each once and in order, until the job has ended. Pure; internal.

The tail combines three sources. Each is used for what the others cannot be relied on:

- The **status** is polled, and it alone decides that the job has ended. A stream may end, or send ``complete``, while
  the job is running: proxies and agents close connections, and Ray's own log tail ends early in several cases.
- A **live stream** delivers lines with little delay. Every stream starts at the first character of the log, so the
  part that was already forwarded is skipped, and verified with digests (:mod:`.cursor`). A stream that is silent for
  too long is replaced, since a dead peer is silent too.
- The **whole log** is the authority on the text. An excerpt of it is compared with a new stream, to detect whether
  messages are lines or chunks (:mod:`.stream_reader`). It is polled while no stream is available or one is suspect
  (:mod:`.suspects`), and read again after the job's end until it contains nothing new.
"""
