"""Archives that are cut short, joined, or not archives."""

import gzip
import io
import json
import os
import tarfile

import pytest

from mmmim.datasets import HuggingFaceStream, WebDatasetStream
from mmmim.datasets.huggingface_stream import _read_file
from mmmim.datasets.tar import read_members
from mmmim.utils import InputError
from tests.images import alarm
from tests.shards import PIPELINE, add, png, write_parquet, write_tars

NUMBER = 4


def archive(pack='', tar_format=tarfile.GNU_FORMAT):
    """The bytes of an archive of images, and where its members begin and end."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f'w{pack}', format=tar_format) as tar:
        for i in range(NUMBER):
            add(tar, f'{i:04d}.json', b'{}')
            add(tar, f'{i:04d}.png', png(i))
    edges = []
    if not pack:
        with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as tar:
            edges = [member.offset for member in tar] + [-(-member.offset_data // 512) * 512 for member in tar]
            edges.append(tar.offset)
    return file.getvalue(), edges


DATA, EDGES = archive()
CUT = DATA[: EDGES[4]]


def names(path, data=None):
    if data is not None:
        path.write_bytes(data)
    return [name for name, _ in WebDatasetStream(str(path), PIPELINE).read_shard(0)]


def members(data):
    return [name for name, _ in read_members(io.BytesIO(data), lambda name: True, 1 << 20)]


@pytest.fixture
def shard(tmp_path):
    return tmp_path / '00.tar'


@pytest.mark.parametrize('tar_format', [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_cut_anywhere_is_noticed(tar_format):
    """At every boundary of a block, and beside it; before the two blocks of zeros that end it."""
    data, edges = archive(tar_format=tar_format)
    assert len(members(data)) == 2 * NUMBER
    end = max(edges)
    for place in sorted({*range(512, end + 1, 512), *(edge + step for edge in edges for step in (-1, 1, 100))}):
        if 0 < place <= end + 511:
            with pytest.raises((OSError, tarfile.TarError)):
                members(data[:place])
    assert len(members(data[: end + 512])) == 2 * NUMBER  # a block of zeros is an end


@pytest.mark.parametrize(('images', 'place'), [(1, EDGES[4]), (NUMBER - 1, max(EDGES))])
def test_the_message_names_file_count_and_remedy(shard, images, place):
    message = rf'00\.tar cannot be read as a tar file \(.+\): repair or remove it\. {images} im'
    with pytest.raises(InputError, match=message):
        names(shard, DATA[:place])
    stream = iter(WebDatasetStream(str(shard.parent), PIPELINE))
    with pytest.raises(InputError, match=message):
        [next(stream) for _ in range(2 * NUMBER)]


@pytest.mark.parametrize('pack', [':gz', ':xz'])
def test_packed_archives(shard, pack):
    data, _ = archive(pack)
    assert len(names(shard, data)) == NUMBER
    for cut in (len(data) // 2, len(data) - 1, len(data) - 9):
        with pytest.raises(InputError, match='cannot be read as a tar file'):
            names(shard, data[:cut])


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (gzip.compress(CUT), 'it ends early'),
        (DATA + DATA, 'data follow the end of the archive: are these several'),
        (gzip.compress(DATA) * 2, 'data follow the end of the archive: are these several'),
        (CUT + bytes(8 << 20), 'zeros follow the end of the archive: is this an unfinished download'),
    ],
)
def test_what_follows_an_archive_is_not_lost_in_silence(shard, data, message):
    with pytest.raises(InputError, match=message):
        names(shard, data)
    assert len(names(shard, DATA + bytes(1 << 20))) == NUMBER  # the padding of tar -b 2048


@pytest.mark.parametrize('scheme', ['file:', 'pipe:cat '])
def test_through_pipes_and_urls(shard, scheme):
    shard.write_bytes(DATA)
    assert len(names(f'{scheme}{shard}')) == NUMBER
    shard.write_bytes(CUT)
    with pytest.raises(InputError, match='it ends early'):
        names(f'{scheme}{shard}')


def test_pipes_that_give_nothing(tmp_path, shard):
    shard.write_bytes(DATA)
    with alarm(20), pytest.raises(InputError, match='cannot be read as a tar file'):
        names(f'pipe:head -c 3000 {shard}; exit 3')
    os.mkfifo(tmp_path / 'pipe.tar')
    with alarm(), pytest.raises(InputError, match='not a regular file but a named pipe'):
        names(tmp_path / 'pipe.tar')
    with alarm(), pytest.raises(InputError, match='named pipe'):
        _read_file(str(tmp_path / 'pipe.tar'))  # a row of a Parquet file that names it


@pytest.mark.parametrize(
    ('kind', 'size', 'message'),
    [
        (tarfile.REGTYPE, 1 << 40, 'a member of 1099511627776 bytes'),
        (tarfile.GNUTYPE_LONGNAME, 1 << 33, 'a header of 8589934592 bytes'),
    ],
)
def test_members_and_headers_that_claim_to_be_huge(kind, size, message):
    entry = tarfile.TarInfo('a.png')
    entry.type, entry.size = kind, size
    with alarm(), pytest.raises(tarfile.ReadError, match=message):
        members(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))


@pytest.mark.parametrize(
    ('name', 'message'),
    [('a\n\x1b[31m\u202e.png', 'cannot read image'), ('a\n\x1b[31m.t\nxt', 'none of the image_keys')],
)
def test_names_of_members_are_printable_in_messages(shard, name, message):
    with tarfile.open(shard, 'w', format=tarfile.PAX_FORMAT) as tar:
        add(tar, name, b'no image')
        add(tar, 'b.png', png(3))
    stream = iter(WebDatasetStream(str(shard), PIPELINE, max_unreadable_share=0))
    with pytest.raises(InputError, match=message) as caught:
        [next(stream) for _ in range(2)]
    assert str(caught.value).isprintable()


def test_an_index_tells_missing_and_exchanged_shards(tmp_path):
    folder = tmp_path / 'tars'
    write_tars(folder, (3, 3))

    def write_index(*keys):
        entry = [{'nsamples': 3, 'filesize': os.path.getsize(folder / f'{i:02d}.tar')} for i in range(2)]
        entries = [{'url': f'{i:02d}.tar', **{key: entry[i][key] for key in keys}} for i in range(2)]
        (folder / 'index.json').write_text(json.dumps({'shardlist': entries}))

    def read():
        stream = iter(WebDatasetStream(str(folder), PIPELINE, shuffle=False))
        return [next(stream) for _ in range(6)]

    write_index('nsamples', 'filesize')
    assert len(read()) == 6
    # Cut at a boundary and filled up with zeros: an archive like any other, but not of this size or of as many images.
    data = (folder / '01.tar').read_bytes()
    with tarfile.open(folder / '01.tar') as tar:
        (folder / '01.tar').write_bytes(data[: tar.getmembers()[4].offset] + bytes(512))
    with pytest.raises(InputError, match=rf'01\.tar has \d+ bytes, but its index says {len(data)}: it is cut short'):
        read()
    write_index('nsamples')
    with pytest.raises(InputError, match='holds 2 images, but its index says 3: it is cut short'):
        read()
    os.remove(folder / '01.tar')
    with pytest.raises(InputError, match=r'lacks 1 shard\(s\) that its index\.json names \(01\.tar\): copy them'):
        read()
    assert len(WebDatasetStream(str(folder / '*.tar'), PIPELINE).shards) == 1  # a pattern means what it finds


def test_files_of_hugging_face_that_are_cut(shard, tmp_path):
    """The library takes a tar file that is cut at a boundary for a whole one."""
    shard.write_bytes(DATA)
    options = dict(path='webdataset', column='png', load_options=dict(data_files=str(tmp_path / '*.tar')))
    stream = HuggingFaceStream(pipeline=PIPELINE, **options)
    assert len(list(stream.read_shard(0))) == NUMBER
    shard.write_bytes(CUT)
    with pytest.raises(InputError, match=r'00\.tar cannot be read as a tar file \(it ends early'):
        list(stream.read_shard(0))
    stream = HuggingFaceStream(write_parquet(tmp_path / 'parquet', (3, 3)), PIPELINE)
    path = tmp_path / 'parquet/train-01.parquet'
    path.write_bytes(path.read_bytes()[:-20])
    for act in (lambda: list(stream.read_shard(1)), lambda: stream.length_of(1)):
        with pytest.raises(InputError, match=r'train-01\.parquet cannot be read'):
            act()
