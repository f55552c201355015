"""The `kryptonite` command. A command's module parses, calls the library and reports."""
