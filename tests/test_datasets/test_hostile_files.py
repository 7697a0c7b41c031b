"""Files that are no images, or more than one can hold, and names that are not for logs."""

import logging
import os
import socket
import zlib

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image, ImageFile

from mmmim.datasets import ImageFolder
from mmmim.datasets.transforms import LoadImage, UnreadableImageError, decode_jpeg, read_file, read_image
from mmmim.datasets.transforms.decoding import FORMATS
from mmmim.utils import InputError
from mmmim.utils.files import open_regular, read_regular
from mmmim.utils.names import forgive_logger, printable
from mmmim.visualization.inputs import read_square, read_stretched
from tests.images import alarm, bomb_png, png_chunk

READERS = [
    read_image,
    read_file,
    lambda path: LoadImage()({'img_path': str(path)}),
    lambda path: LoadImage('pillow', channels=1)({'img_path': str(path)}),
]


def fifo(path):
    os.mkfifo(path)


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def device(path):
    os.symlink('/dev/zero', path)


def terminal(path):
    os.symlink('/dev/tty', path)


def linked_fifo(path):
    os.mkfifo(f'{path}.pipe')
    os.symlink(f'{path}.pipe', path)


def huge(path):
    with open(path, 'wb') as file:
        file.truncate(1 << 40)


SPECIAL = [fifo, unix_socket, device, terminal, linked_fifo, os.mkdir, huge]


@pytest.mark.parametrize('make', SPECIAL)
@pytest.mark.parametrize('read', READERS)
def test_only_regular_files_are_opened(tmp_path, monkeypatch, make, read):
    monkeypatch.chdir(tmp_path)  # the names of sockets are short
    make('f.png')
    with alarm(), pytest.raises(UnreadableImageError, match=r'f\.png: (not a regular file but a|a file of 10995)'):
        read('f.png')


def test_a_pipe_that_takes_the_place_of_a_file_meanwhile(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / 'f.png')
    (tmp_path / 'g.png').write_bytes(b'')
    file = os.stat(tmp_path / 'g.png')
    monkeypatch.setattr(os, 'stat', lambda path: file)
    with alarm(), pytest.raises(OSError, match='named pipe'):
        open_regular(tmp_path / 'f.png')


def test_files_without_a_size_and_beside_the_limit(tmp_path):
    assert b'MemTotal' in read_regular('/proc/meminfo', 1 << 20)
    (tmp_path / 'a').write_bytes(b'x' * 100)
    assert read_regular(tmp_path / 'a', 100) == b'x' * 100
    with pytest.raises(OSError, match='a file of 100 bytes, more than 99'):
        read_regular(tmp_path / 'a', 99)
    with pytest.raises(OSError, match='more than 99 bytes'):
        read_regular('/proc/meminfo', 99)


def test_names_with_a_zero_byte():
    with pytest.raises(UnreadableImageError, match='null'):
        read_image('a\0b.png')


def folder(tmp_path, files, **options):
    for i in range(4):
        Image.new('RGB', (8, 8), (i, 0, 0)).save(tmp_path / f'{i}.png')
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return ImageFolder(str(tmp_path), pipeline=[{'type': 'mmmim.LoadImage'}], max_unreadable_share=0.5, **options)


def test_a_training_folder_goes_on_beside_a_pipe(tmp_path):
    os.mkfifo(tmp_path / '0a.png')
    data = folder(tmp_path, {})
    with alarm():
        assert [data[i]['img'][0, 0, 2] for i in range(5)] == [0, 1, 1, 2, 3]
    assert [os.path.basename(path) for path in data.unreadable] == ['0a.png']


@pytest.fixture(scope='module')
def bomb():
    return bomb_png(13_000)


def test_a_bomb_is_refused_by_its_header(tmp_path, monkeypatch, bomb):
    assert len(bomb) < 3_000_000
    (tmp_path / 'bomb.png').write_bytes(bomb)
    monkeypatch.setattr(ImageFile.ImageFile, 'load', lambda self: pytest.fail('it was decoded'))
    for read in (*READERS[:1], *READERS[2:]):
        with pytest.raises(UnreadableImageError, match='13000 x 13000 pixels are more than the limit of 80000000'):
            read(tmp_path / 'bomb.png')
    for tool in (read_square, read_stretched):
        with pytest.raises(InputError, match='13000 x 13000'):
            tool(str(tmp_path / 'bomb.png'), 32)


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp', 'bmp', 'tiff', 'gif', 'ppm'])
def test_the_limit_can_be_set_and_holds_for_every_format(tmp_path, monkeypatch, suffix):
    path = str(tmp_path / f'image.{suffix}')
    Image.effect_noise((100, 50), 50).convert('RGB').save(path)
    for read in READERS[2:]:
        assert read(path)['img'].shape[:2] == (50, 100)
    assert LoadImage(max_pixels=5000)({'img_path': path})['img'].shape == (50, 100, 3)
    for decoder in ('auto', 'pillow'):
        with pytest.raises(UnreadableImageError, match='100 x 50 pixels are more than the limit of 4999'):
            LoadImage(decoder, max_pixels=4999)({'img_path': path})
    monkeypatch.setenv('MMMIM_MAX_IMAGE_PIXELS', '4999')
    for read in READERS[2:]:
        with pytest.raises(UnreadableImageError, match=r'limit of 4999; .* raise max_pixels .*MMMIM_MAX_IMAGE_PIXELS'):
            read(path)
    with pytest.raises(UnreadableImageError, match='limit of 4999'):
        read_image(path)
    assert LoadImage(max_pixels=5000)({'img_path': path})['img'].shape == (50, 100, 3)
    monkeypatch.setenv('MMMIM_MAX_IMAGE_PIXELS', 'many')
    with pytest.raises(InputError, match='MMMIM_MAX_IMAGE_PIXELS=many: give a number'):
        read_image(path)


@pytest.mark.filterwarnings('error')
def test_pillows_own_limit_neither_warns_nor_refuses(tmp_path, monkeypatch):
    """Scaled down: an image above the limits at which Pillow warns, and refuses."""
    Image.effect_noise((100, 50), 50).convert('RGB').save(tmp_path / 'a.jpg', exif=turned())
    for limit in (4000, 1000):
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', limit)
        assert read_image(tmp_path / 'a.jpg').shape == (100, 50, 3)
        assert LoadImage()({'img_path': tmp_path / 'a.jpg'})['img'].shape == (100, 50, 3)
        assert limit == Image.MAX_IMAGE_PIXELS


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    'options', [{'max_pixels': 0}, {'max_pixels': 1e9}, {'channels': 0}, {'channels': '5'}, {'formats': 'HEIF'}]
)
def test_options_without_a_meaning(options):
    with pytest.raises(InputError, match=f'LoadImage.*{next(iter(options))}'):
        LoadImage(**options)


def hidden(path, kind):
    Image.new('RGB', (8, 8)).save(path, kind)


@pytest.mark.parametrize('kind', ['EPS', 'PDF', 'ICO', 'PCX', 'TGA', 'SGI', 'JPEG2000', 'DDS', 'IM', 'MSP'])
def test_other_formats_do_not_hide_behind_a_name(tmp_path, monkeypatch, kind):
    image = Image.new('1' if kind == 'MSP' else 'RGB', (16, 16))
    image.save(tmp_path / 'image.jpg', kind)
    monkeypatch.setattr('subprocess.Popen', lambda *_, **__: pytest.fail('a program was started'))
    for read in (*READERS[:1], *READERS[2:]):
        with pytest.raises(
            UnreadableImageError, match=r'image\.jpg: no image format that is read \(JPEG, PNG.*convert it'
        ):
            read(tmp_path / 'image.jpg')
    if kind not in ('EPS', 'PDF'):
        assert LoadImage(formats=[kind])({'img_path': tmp_path / 'image.jpg'})['img'].shape == (16, 16, 3)


@pytest.mark.parametrize('kind', FORMATS)
def test_names_of_other_formats_that_are_read_are_fine(tmp_path, kind):
    hidden(tmp_path / 'image.gif', kind)
    assert read_image(tmp_path / 'image.gif').shape == (8, 8, 3)


def text_bomb():
    return png_chunk(b'zTXt', b'key\0\0' + zlib.compress(bytes(100 << 20), 9))


def profile_bomb():
    return png_chunk(b'iCCP', b'name\0\0' + zlib.compress(bytes(100 << 20), 9))


@pytest.mark.parametrize('chunk', [text_bomb, profile_bomb])
def test_bombs_beside_the_pixels(tmp_path, chunk):
    (tmp_path / 'a.png').write_bytes(bomb_png(8, chunk()))
    with alarm():
        try:
            assert read_image(tmp_path / 'a.png').shape == (8, 8, 3)
        except UnreadableImageError as error:
            assert 'a.png' in str(error)  # noqa: PT017


def test_many_frames_are_not_looked_at(tmp_path):
    frames = [Image.new('RGB', (8, 8), (i, 0, 0)) for i in range(200)]
    frames[0].save(tmp_path / 'a.gif', save_all=True, append_images=frames[1:])
    data = (tmp_path / 'a.gif').read_bytes()
    (tmp_path / 'a.gif').write_bytes(data[: len(data) // 2])
    assert read_image(tmp_path / 'a.gif').shape == (8, 8, 3)


@pytest.mark.filterwarnings('ignore::UserWarning:PIL')
def test_damaged_files_of_all_kinds_are_unreadable_and_nothing_else(tmp_path):
    """Seeded: 600 files with flipped bytes, cut short, or with bytes in between."""
    rng, outcomes = np.random.default_rng(0), set()
    for kind in FORMATS:
        path = tmp_path / 'image.png'
        Image.effect_noise((24, 24), 80).convert('RGB').save(path, kind)
        whole = path.read_bytes()
        for _ in range(85):
            data = bytearray(whole)
            for _ in range(rng.integers(1, 6)):
                data[rng.integers(0, min(len(data), 300))] = rng.integers(0, 256)
            if rng.random() < 0.3:
                del data[rng.integers(0, len(data)) :]
            try:
                with alarm(20):
                    LoadImage(max_pixels=1 << 20)({'img_path': 'x', 'img_bytes': bytes(data)})
                outcomes.add('read')
            except UnreadableImageError as error:
                outcomes.add('refused')
                assert '\n' not in str(error)  # noqa: PT017
    assert outcomes == {'read', 'refused'}


NAMES = [
    'line\nbreak.png',
    '\x1b[31mred.png',
    'back\rwards.png',
    'bell\x07.png',
    '\u202egnp.exe.png',
    'not\udcff\udcfe.png',
    'zero\u200bwidth.png',
    'line\u2028separator.png',
]


def test_ordinary_names_stay_as_they_are():
    for name in ('a b.png', 'ünï 日本 €.png', 'C:\\x.png', 'qu\'ote"$(x){1}.png'):
        assert printable(name) == name
    assert printable('a\nb', keep='\n') == 'a\nb'
    assert len(printable('x' * 10_000)) < 600


@pytest.mark.parametrize('name', NAMES)
def test_names_are_one_line_in_messages_and_logs(tmp_path, caplog, name):
    data = folder(tmp_path, {os.fsdecode(os.fsencode(name)): b'no image'})
    with caplog.at_level(logging.WARNING):
        logger = MMLogger.get_current_instance()
        logger.addHandler(caplog.handler)
        try:
            assert len([data[i] for i in range(5)]) == 5
        finally:
            logger.removeHandler(caplog.handler)
    (message,) = (record.getMessage() for record in caplog.records if 'cannot read' in record.getMessage())
    assert message.isprintable()
    assert message.encode().isascii() or message.encode()  # no surrogates
    assert printable(name) in message
    with pytest.raises(UnreadableImageError) as caught:
        read_image(tmp_path / name)
    assert str(caught.value).isprintable()
    tests = ImageFolder(str(tmp_path), pipeline=[{'type': 'mmmim.LoadImage'}], test_mode=True)
    with pytest.raises(InputError, match='Evaluation needs every image') as caught:
        _ = [tests[i] for i in range(5)]
    assert str(caught.value).isprintable()


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
def test_log_handlers_write_any_name(tmp_path, capsys, encoding):
    """Also those that nobody made printable, in files and on terminals of any encoding."""
    logger = logging.Logger('any')
    handlers = [
        logging.FileHandler(tmp_path / 'log', encoding=encoding),
        logging.StreamHandler(open(tmp_path / 'screen', 'w', encoding=encoding)),  # noqa: SIM115
    ]
    for handler in handlers:
        logger.addHandler(handler)
    forgive_logger(logger)
    logger.warning('%s', '日本 not\udcff and \x1b[31mred\nsecond line')
    logger.warning(f'{100}% of {"%d"}')
    for handler in handlers:
        handler.flush()
        handler.close()
    assert 'Logging error' not in capsys.readouterr().err
    log = (tmp_path / 'log').read_text('utf-8')
    assert log == '日本 not\\udcff and \\x1b[31mred\nsecond line\n100% of %d\n'
    assert '\x1b' not in (tmp_path / 'screen').read_text(encoding)
    handlers[1].stream.close()


def test_errors_of_all_kinds_are_printable():
    assert str(InputError('a\x1b[31m\u202e\udcff\nsecond line')) == 'a\\x1b[31m\\u202e\\udcff\nsecond line'


def test_the_header_check_reads_a_file_once(tmp_path, monkeypatch):
    Image.effect_noise((64, 64), 50).convert('RGB').save(tmp_path / 'a.jpg')
    reads = []
    whole = os.open

    def opened(path, *args):
        reads.append(path)
        return whole(path, *args)

    monkeypatch.setattr(os, 'open', opened)
    image = LoadImage()({'img_path': tmp_path / 'a.jpg'})['img']
    assert len(reads) == 1
    np.testing.assert_array_equal(image, decode_jpeg((tmp_path / 'a.jpg').read_bytes()))


def test_an_unreadable_image_is_one_line_behind_worker_processes(tmp_path):
    """In data sets of others, which leave nothing out."""
    from torch.utils.data import DataLoader

    (tmp_path / 'a\n.png').write_bytes(b'no image')
    loader = DataLoader([{'img_path': str(tmp_path / 'a\n.png')}], collate_fn=LoadOnly(), num_workers=1)
    with pytest.raises(InputError) as caught:
        next(iter(loader))
    assert isinstance(caught.value, UnreadableImageError)
    assert str(caught.value).startswith('cannot read image ')
    assert str(caught.value).isprintable()


class LoadOnly:
    def __call__(self, samples):
        return [LoadImage()(dict(sample)) for sample in samples]
