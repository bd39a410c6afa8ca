"""Whole grids in one process and in virtual time; each module is a document to be read and run."""
