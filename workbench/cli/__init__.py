"""The command line: it may import everything, and only `workbench.__main__` imports it.

Commands import what they need when they run, so that `--help` stays quick and loads no torch.
"""
