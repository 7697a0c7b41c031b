"""As convert.py --from mae."""

from mmmim.cli.convert import main

if __name__ == '__main__':
    main(name='mae')
