"""As convert.py --from simmim."""

from mmmim.cli.convert import main

if __name__ == '__main__':
    main(name='simmim')
