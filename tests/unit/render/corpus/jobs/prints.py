"""Words that look like levels and are none; everything here is a plain print."""

from __future__ import annotations

print(
    """error rate: 0.01
ERRORS: 0
no errors found
Errors: 0, Warnings: 2
ERROR rate is 0.3 %
WARNINGS: 0
INFO
DEBUG=1
error
Error
ERROR
WARNING
Error: 0.0123
Error: None
error: none
ERROR: 0
ERROR: 0.25
ERROR: None
ERROR = 0.1
Warning count: 3
E is 2.718281828
E = mc^2
E1 E2 E3
E1124 is a part number
W1000: a wire
I am fine
I0 = 3.2 A
[E] energy
[INFOBOX] a box
[1/3] Building
[ERRORS] 0
[error_rate=0.2]
(pid=1 is init)
{"error": 0, "level": 3}
{"level": "ERROR"
{'level': 'ERROR', 'message': 'a Python dict'}
level=3 score=12
level=hard
the level is ERROR
2026-11-25 no log line, an ERROR in the accounts
2026-11-25 03:00:00 the run had ERROR 7 in it
2026-11-25 03:00:00 errors=0 warnings=0
2026-11-25T03:00:00Z,ERROR,7
03:00:00 INFORMATION desk opens
Epoch 1/10 - loss: 0.69 - mean_absolute_error: 0.42 - val_error: 0.5
  0%|          | 0/100 [00:00<?, ?it/s, error=0.3]
Traceback of the calls is below
the Traceback (most recent call last): is what Python prints
File "a.txt", line 3
  File "b.txt", line 4, is an indented print
ValueError: is what int() raises
KeyError
UserWarning: only the words
see model.py:12: a warning
http://host:80/path: Warning: not one
CRITICAL path: a, b, c
FATALITIES: 0
WARN
Exception handling is on
During handling of the above exception, another exception occurred: that is a sentence
name,level,count
orders,ERROR,3
| level | ERROR |
| ERROR    | 3 |
INFO: 3
INFORMATION: none
DEBUGGER attached: False
SUCCESS
NOTICE: board
::error::not a command here
ERROR:
WARNING:
ERRORLEVEL: 1
"ERROR: quoted"
- ERROR: an item of a list
# WARNING: a comment
> ERROR: a citation""",
    flush=True,
)
