"""As convert.py --from ijepa."""

from mmmim.cli.convert import main

if __name__ == '__main__':
    main(name='ijepa')
