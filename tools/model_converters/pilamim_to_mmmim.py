"""As convert.py --from pilamim."""

from mmmim.cli.convert import main

if __name__ == '__main__':
    main(name='pilamim')
