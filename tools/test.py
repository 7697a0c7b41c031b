#!/usr/bin/env python
"""Test a model: run the test loop of a config and print its metrics."""

from mmmim.cli.test import main

if __name__ == '__main__':
    main()
