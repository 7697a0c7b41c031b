"""As convert.py --from capi."""

from mmmim.cli.convert import main

if __name__ == '__main__':
    main(name='capi')
