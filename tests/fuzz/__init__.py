"""Machine-made inputs: whatever a file holds, its reader gives data or one UserError.

`make test` tries twenty examples of each property, `make fuzz` thousands, and then lets atheris look for more.
"""
