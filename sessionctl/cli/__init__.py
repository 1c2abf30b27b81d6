"""The command line: translates words into calls of core, and answers into text. Imports are made when needed."""
