"""Files that are no images, or more than one can hold, and names that are not for logs."""

import logging
import os
import socket
import struct
import zlib

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image, ImageFile
from torch.utils.data import DataLoader

from mmmim.datasets import ImageFolder
from mmmim.datasets.squares import read_square, read_stretched
from mmmim.datasets.transforms import LoadImage, UnreadableImageError, decode_jpeg, read_file, read_image
from mmmim.utils import InputError
from mmmim.utils.files import open_regular, read_regular
from mmmim.utils.names import forgive_logger, printable
from tests.images import alarm, bomb_png, png_chunk

DECODERS = [
    read_image,
    lambda path: LoadImage()({'img_path': str(path)})['img'],
    lambda path: LoadImage('pillow', channels=1)({'img_path': str(path)})['img'],
]


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def device(path):
    os.symlink('/dev/zero', path)


def linked_fifo(path):
    os.mkfifo(f'{path}.pipe')
    os.symlink(f'{path}.pipe', path)


def huge(path):
    with open(path, 'wb') as file:
        file.truncate(1 << 40)


def noise(path, size=(100, 50), **options):
    Image.effect_noise(size, 50).convert('RGB').save(path, **options)
    return str(path)


@pytest.mark.parametrize('make', [os.mkfifo, unix_socket, device, linked_fifo, os.mkdir, huge])
def test_only_regular_files_are_opened(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)  # the names of sockets are short
    make('f.png')
    for read in (*DECODERS, read_file):
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
    for path, words in ((tmp_path / 'a', 'a file of 100 bytes, more than 99'), ('/proc/meminfo', 'more than 99 bytes')):
        with pytest.raises(OSError, match=words):
            read_regular(path, 99)


def folder(path, files=(), **options):
    for i in range(4):
        Image.new('RGB', (8, 8), (i, 0, 0)).save(path / f'{i}.png')
    for name, content in dict(files).items():
        (path / name).write_bytes(content)
    return ImageFolder(str(path), pipeline=[{'type': 'mmmim.LoadImage'}], max_unreadable_share=0.5, **options)


def test_a_bomb_is_refused_by_its_header(tmp_path, monkeypatch):
    small = bomb_png(8)
    header = png_chunk(b'IHDR', struct.pack('>II', 13_000, 13_000) + small[24:29])
    (tmp_path / 'bomb.png').write_bytes(small[:8] + header + small[33:])
    monkeypatch.setattr(ImageFile.ImageFile, 'load', lambda self: pytest.fail('it was decoded'))
    for read in DECODERS:
        with pytest.raises(UnreadableImageError, match='13000 x 13000 pixels are more than the limit of 80000000'):
            read(tmp_path / 'bomb.png')
    for tool in (read_square, read_stretched):
        with pytest.raises(InputError, match='13000 x 13000'):
            tool(str(tmp_path / 'bomb.png'), 32)


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp', 'bmp', 'tiff', 'gif', 'ppm'])
def test_the_limit_can_be_set_and_holds_for_every_format(tmp_path, monkeypatch, suffix):
    path = noise(tmp_path / f'image.{suffix}')
    for decoder in ('auto', 'pillow'):
        with pytest.raises(UnreadableImageError, match='100 x 50 pixels are more than the limit of 4999'):
            LoadImage(decoder, max_pixels=4999)({'img_path': path})
    for text in (None, '4999'):
        if text:
            monkeypatch.setenv('MMMIM_MAX_IMAGE_PIXELS', text)
        assert LoadImage(max_pixels=5000)({'img_path': path})['img'].shape == (50, 100, 3)
        for read in DECODERS:
            if not text:
                assert read(path).shape[:2] == (50, 100)
                continue
            with pytest.raises(UnreadableImageError, match=r'limit of 4999; .* max_pixels .*MMMIM_MAX_IMAGE_PIXELS'):
                read(path)
    monkeypatch.setenv('MMMIM_MAX_IMAGE_PIXELS', 'many')
    with pytest.raises(InputError, match='MMMIM_MAX_IMAGE_PIXELS=many: give a number'):
        read_image(path)


@pytest.mark.filterwarnings('error')
def test_pillows_own_limit_neither_warns_nor_refuses(tmp_path, monkeypatch):
    """Scaled down: an image above the limits at which Pillow warns, and refuses."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = noise(tmp_path / 'a.jpg', exif=exif)
    for limit in (4000, 1000):
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', limit)
        assert [read(path).shape[:2] for read in DECODERS] == [(100, 50)] * 3
        assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    'options', [{'max_pixels': 0}, {'max_pixels': 1e9}, {'channels': 0}, {'channels': '5'}, {'formats': 'HEIF'}]
)
def test_options_without_a_meaning(options):
    with pytest.raises(InputError, match=f'LoadImage.*{next(iter(options))}'):
        LoadImage(**options)


@pytest.mark.parametrize('kind', ['EPS', 'PDF', 'ICO', 'TGA', 'JPEG2000', 'MSP'])
def test_other_formats_do_not_hide_behind_a_name(tmp_path, monkeypatch, kind):
    path = tmp_path / 'image.jpg'
    Image.new('1' if kind == 'MSP' else 'RGB', (16, 16)).save(path, kind)
    monkeypatch.setattr('subprocess.Popen', lambda *_, **__: pytest.fail('a program was started'))
    for read in DECODERS:
        with pytest.raises(
            UnreadableImageError, match=r'image\.jpg: no image format that is read \(JPEG, .*convert it'
        ):
            read(path)
    if kind not in ('EPS', 'PDF'):
        assert LoadImage(formats=[kind])({'img_path': path})['img'].shape == (16, 16, 3)


@pytest.mark.parametrize(('kind', 'start'), [(b'zTXt', b'key\0\0'), (b'iCCP', b'name\0\0')])
def test_bombs_beside_the_pixels(tmp_path, kind, start):
    chunk = png_chunk(kind, start + zlib.compress(bytes(20 << 20), 9))
    (tmp_path / 'a.png').write_bytes(bomb_png(8, chunk))
    with alarm():
        try:
            assert read_image(tmp_path / 'a.png').shape == (8, 8, 3)
        except UnreadableImageError as error:
            assert 'a.png' in str(error)  # noqa: PT017


NAMES = ['line\nbreak.png', '\x1b[31mred.png', '\u202egnp.exe.png', 'not\udcff\udcfe.png', 'line\u2028separator.png']


def test_what_is_printable():
    for name in ('a b.png', 'ünï 日本 €.png', 'C:\\x.png', 'qu\'ote"$(x){1}.png'):
        assert printable(name) == name
    assert printable('a\nb', keep='\n') == 'a\nb'
    assert len(printable('x' * 10_000)) < 600
    assert str(InputError('a\x1b[31m\u202e\udcff\nsecond line')) == 'a\\x1b[31m\\u202e\\udcff\nsecond line'
    with pytest.raises(UnreadableImageError, match='null'):
        read_image('a\0b.png')


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
    assert message.encode()  # no surrogates
    assert printable(name) in message
    data.test_mode = True
    for read in (lambda: read_image(tmp_path / name), lambda: [data[i] for i in range(5)]):
        with pytest.raises(InputError) as caught:
            read()
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


def test_the_header_check_reads_a_file_once(tmp_path, monkeypatch):
    path, reads, whole = noise(tmp_path / 'a.jpg'), [], os.open
    monkeypatch.setattr(os, 'open', lambda path, *args: reads.append(path) or whole(path, *args))
    image = LoadImage()({'img_path': path})['img']
    assert len(reads) == 1
    np.testing.assert_array_equal(image, decode_jpeg((tmp_path / 'a.jpg').read_bytes()))


def load_only(samples):
    return [LoadImage()(dict(sample)) for sample in samples]


def test_an_unreadable_image_is_one_line_behind_worker_processes(tmp_path):
    """In data sets of others, which leave nothing out."""
    (tmp_path / 'a\n.png').write_bytes(b'no image')
    loader = DataLoader([{'img_path': str(tmp_path / 'a\n.png')}], collate_fn=load_only, num_workers=1)
    with pytest.raises(UnreadableImageError, match=r'^cannot read image ') as caught:
        next(iter(loader))
    assert str(caught.value).isprintable()
