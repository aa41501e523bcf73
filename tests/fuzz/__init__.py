"""Machine-made inputs: whatever a file holds, its reader gives data or one UserError.

`make test` tries ten examples of each property, `make fuzz` a thousand, and then lets atheris look for more.
"""
