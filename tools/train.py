#!/usr/bin/env python
"""Train a model."""

from mmmim.cli.train import main

if __name__ == '__main__':
    main()
