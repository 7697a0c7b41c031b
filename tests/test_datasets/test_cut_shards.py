"""Archives that are cut short, joined, or not archives."""

import gzip
import io
import json
import os
import tarfile

import pytest

from mmmim.datasets import HuggingFaceStream, WebDatasetStream
from mmmim.datasets.tar import read_members
from mmmim.utils import InputError
from tests.images import alarm
from tests.shards import PIPELINE, add, png, write_tars

NUMBER = 4


def archive(pack='', number=NUMBER, tar_format=tarfile.GNU_FORMAT):
    """The bytes of an archive of images, and where its members begin and end."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f'w{pack}', format=tar_format) as tar:
        for i in range(number):
            add(tar, f'{i:04d}.json', b'{}')
            add(tar, f'{i:04d}.png', png(i))
    edges = []
    if not pack:
        with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as tar:
            edges = [member.offset for member in tar] + [-(-member.offset_data // 512) * 512 for member in tar]
            edges.append(tar.offset)
    return file.getvalue(), edges


def names(path):
    return [name for name, _ in WebDatasetStream(str(path), PIPELINE).read_shard(0)]


def members(data):
    return [name for name, _ in read_members(io.BytesIO(data), lambda name: True, 1 << 20)]


@pytest.mark.parametrize('tar_format', [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_an_archive_cut_anywhere_is_noticed(tmp_path, tar_format):
    """At every boundary of a block, and beside it; before the two blocks of zeros that end it."""
    data, edges = archive(tar_format=tar_format)
    assert len(members(data)) == 2 * NUMBER
    end = max(edges)
    assert not data[end:].strip(b'\0')
    for place in sorted({*range(512, end + 1, 512), *(edge + step for edge in edges for step in (-1, 1, 100))}):
        if 0 < place <= end + 511:
            with pytest.raises((OSError, tarfile.TarError)):
                members(data[:place])
    assert len(members(data[: end + 512])) == 2 * NUMBER  # a block of zeros is an end


def test_the_message_names_file_count_and_remedy(tmp_path):
    data, edges = archive()
    path = tmp_path / '00.tar'
    for images, place in ((1, edges[4]), (1, edges[4] + 100), (NUMBER - 1, max(edges))):
        path.write_bytes(data[:place])
        with pytest.raises(
            InputError, match=rf'00\.tar cannot be read as a tar file \(.+\): repair or remove it\. {images} im'
        ):
            names(path)
    path.write_bytes(data)
    assert len(names(path)) == NUMBER


def test_a_cut_shard_stops_a_training_as_one_cut_inside_a_member_does(tmp_path):
    data, edges = archive()
    for place in (edges[2], edges[2] + 700):
        (tmp_path / '00.tar').write_bytes(data[:place])
        stream = iter(WebDatasetStream(str(tmp_path), PIPELINE))
        with pytest.raises(InputError, match=r'00\.tar cannot be read as a tar file'):
            [next(stream) for _ in range(2 * NUMBER)]


@pytest.mark.parametrize('pack', ['', ':gz', ':bz2', ':xz'])
def test_packed_archives(tmp_path, pack):
    data, _ = archive(pack)
    assert len(members(data)) == 2 * NUMBER
    for cut in (len(data) // 2, len(data) * 3 // 4) if not pack else (len(data) // 2, len(data) - 1, len(data) - 9):
        path = tmp_path / '00.tar'
        path.write_bytes(data[:cut])
        with pytest.raises(InputError, match='cannot be read as a tar file'):
            names(path)


def test_a_packed_archive_that_was_cut_before(tmp_path):
    data, edges = archive()
    (tmp_path / '00.tar').write_bytes(gzip.compress(data[: edges[4]]))
    with pytest.raises(InputError, match='it ends early'):
        names(tmp_path / '00.tar')


@pytest.mark.parametrize('pack', [lambda data: data, gzip.compress])
def test_joined_archives_lose_no_images_in_silence(tmp_path, pack):
    data, _ = archive()
    (tmp_path / '00.tar').write_bytes(pack(data) + pack(data))
    with pytest.raises(InputError, match='data follow the end of the archive: are these several'):
        names(tmp_path / '00.tar')


def test_padding_is_no_damage_and_many_zeros_are(tmp_path):
    data, edges = archive()
    (tmp_path / '00.tar').write_bytes(data + bytes(1 << 20))  # tar -b 2048
    assert len(names(tmp_path / '00.tar')) == NUMBER
    with open(tmp_path / '00.tar', 'r+b') as file:
        file.truncate(edges[4])
        file.truncate(64 << 20)
    with pytest.raises(InputError, match='zeros follow the end of the archive: is this an unfinished download'):
        names(tmp_path / '00.tar')


@pytest.mark.parametrize('scheme', ['file:', 'pipe:cat '])
def test_through_pipes_and_urls(tmp_path, scheme):
    data, edges = archive()
    path = tmp_path / '00.tar'
    path.write_bytes(data)
    assert len(names(f'{scheme}{path}')) == NUMBER
    path.write_bytes(data[: edges[4]])
    with pytest.raises(InputError, match='it ends early'):
        names(f'{scheme}{path}')


def test_a_pipe_whose_command_dies(tmp_path):
    (tmp_path / '00.tar').write_bytes(archive()[0])
    with alarm(20), pytest.raises(InputError, match='cannot be read as a tar file'):
        names(f'pipe:head -c 3000 {tmp_path}/00.tar; exit 3')


def test_a_named_pipe_in_the_place_of_a_shard(tmp_path):
    os.mkfifo(tmp_path / '00.tar')
    with alarm(), pytest.raises(InputError, match='not a regular file but a named pipe'):
        names(tmp_path / '00.tar')


def sparse(name, size):
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def test_members_and_headers_that_claim_to_be_huge():
    for block in (sparse('a.png', 1 << 40), sparse('a.png', 1 << 40).replace(b'ustar', b'ustar', 1)):
        with alarm(), pytest.raises(tarfile.ReadError, match='a member of 1099511627776 bytes'):
            members(block + bytes(1 << 16))
    entry = tarfile.TarInfo('x')
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    with alarm(), pytest.raises(tarfile.ReadError, match='a header of 8589934592 bytes'):
        members(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))


def test_names_of_members_are_printable_in_messages(tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w', format=tarfile.PAX_FORMAT) as tar:
        add(tar, 'a\n\x1b[31m\u202e.png', b'no image')
        add(tar, 'b.png', png(3))
    (tmp_path / '00.tar').write_bytes(file.getvalue())
    stream = iter(WebDatasetStream(str(tmp_path), PIPELINE, max_unreadable_share=0))
    with pytest.raises(InputError, match='cannot read image') as caught:
        [next(stream) for _ in range(2)]
    assert str(caught.value).isprintable()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w', format=tarfile.PAX_FORMAT) as tar:
        add(tar, 'a\n\x1b[31m.t\nxt', b'text')
    (tmp_path / '00.tar').write_bytes(file.getvalue())
    with pytest.raises(InputError, match='none of the image_keys') as caught:
        names(tmp_path)
    assert str(caught.value).isprintable()


def test_an_index_tells_missing_and_exchanged_shards(tmp_path):
    folder = tmp_path / 'tars'
    write_tars(folder, (3, 3))
    entries = [
        {'url': f'{i:02d}.tar', 'nsamples': 3, 'filesize': os.path.getsize(folder / f'{i:02d}.tar')} for i in range(2)
    ]
    (folder / 'index.json').write_text(json.dumps({'shardlist': entries}))
    stream = WebDatasetStream(str(folder), PIPELINE)
    assert [len(list(stream.read_shard(i))) for i in range(2)] == [3, 3]
    # Cut at a boundary and filled up with zeros: an archive like any other, but not of this size.
    data = (folder / '01.tar').read_bytes()
    (folder / '01.tar').write_bytes(data[: len(data) // 2 // 512 * 512] + bytes(512))
    with pytest.raises(InputError, match=rf'01\.tar has \d+ bytes, but its index says {len(data)}: it is cut short'):
        list(stream.read_shard(1))
    os.remove(folder / '01.tar')
    with pytest.raises(InputError, match=r'lacks 1 shard\(s\) that its index\.json names \(01\.tar\): copy them'):
        WebDatasetStream(str(folder), PIPELINE)
    assert len(WebDatasetStream(str(folder / '*.tar'), PIPELINE).shards) == 1  # a pattern means what it finds


def test_zeros_in_the_place_of_members_are_noticed_by_the_number_of_images(tmp_path):
    folder = tmp_path / 'tars'
    write_tars(folder, (3,))
    (folder / 'index.json').write_text(json.dumps({'shardlist': [{'url': '00.tar', 'nsamples': 3}]}))
    data = bytearray((folder / '00.tar').read_bytes())
    with tarfile.open(folder / '00.tar') as tar:
        place = tar.getmembers()[4].offset
    data[place:] = bytes(len(data) - place)
    (folder / '00.tar').write_bytes(data)
    stream = iter(WebDatasetStream(str(folder), PIPELINE))
    with pytest.raises(InputError, match='holds 2 images, but its index says 3: it is cut short'):
        [next(stream) for _ in range(4)]


def test_tar_files_of_hugging_face(tmp_path):
    """The library takes an archive that is cut at a boundary for a whole one."""
    data, edges = archive()
    (tmp_path / 'train-00.tar').write_bytes(data)
    options = dict(path='webdataset', column='png', load_options=dict(data_files=str(tmp_path / '*.tar')))
    stream = HuggingFaceStream(pipeline=PIPELINE, **options)
    assert len(list(stream.read_shard(0))) == NUMBER
    (tmp_path / 'train-00.tar').write_bytes(data[: edges[4]])
    with pytest.raises(InputError, match=r'train-00\.tar cannot be read as a tar file \(it ends early'):
        list(stream.read_shard(0))


def test_parquet_files_that_are_cut(tmp_path):
    from tests.shards import write_parquet

    folder = write_parquet(tmp_path / 'parquet', (3, 3))
    stream = HuggingFaceStream(folder, PIPELINE)
    path = tmp_path / 'parquet/train-01.parquet'
    path.write_bytes(path.read_bytes()[:-20])
    for act in (lambda: list(stream.read_shard(1)), lambda: stream.length_of(1)):
        with pytest.raises(InputError, match=r'train-01\.parquet cannot be read'):
            act()


def test_rows_that_name_a_pipe(tmp_path):
    from mmmim.datasets.huggingface_stream import _read_file

    os.mkfifo(tmp_path / 'a.png')
    with alarm(), pytest.raises(InputError, match='named pipe'):
        _read_file(str(tmp_path / 'a.png'))
