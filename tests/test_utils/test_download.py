"""Downloads against a server of this machine: broken off, resumed, changed, hostile."""

import pytest

from mmmim.utils import InputError, download
from mmmim.utils.download import download as get
from tests.weights_server import serving

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def server(monkeypatch):
    with serving(monkeypatch) as server:
        server.files['a.pth'] = CONTENT
        yield server


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_broken_connection_goes_on_where_it_was(server, tmp_path):
    server.cuts = [1000, 2000]
    get(server.url('a.pth'), tmp_path / 'b.pth')
    assert (tmp_path / 'b.pth').read_bytes() == CONTENT
    assert server.asked == [('a.pth', None), ('a.pth', 'bytes=1000-'), ('a.pth', 'bytes=3000-')]
    assert names(tmp_path) == ['b.pth']


def test_another_call_goes_on_and_a_changed_file_begins_anew(server, tmp_path):
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(InputError, match=r'broke off .*1,000 bytes are kept: the same command goes on'):
        get(server.url('a.pth'), tmp_path / 'a.pth')
    assert not (tmp_path / 'a.pth').exists()
    server.asked.clear()
    get(server.url('a.pth'), tmp_path / 'a.pth')
    assert server.asked == [('a.pth', 'bytes=1000-')]

    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(InputError):
        get(server.url('a.pth'), tmp_path / 'b.pth')
    server.files['a.pth'], server.tags['a.pth'] = CONTENT[::-1], '"2"'
    get(server.url('a.pth'), tmp_path / 'b.pth')
    assert (tmp_path / 'b.pth').read_bytes() == CONTENT[::-1]


def test_without_a_mark_nothing_is_resumed(server, tmp_path):
    server.headers['ETag'] = 'W/"weak"'
    server.cuts = [1000]
    get(server.url('a.pth'), tmp_path / 'a.pth')
    assert (tmp_path / 'a.pth').read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, None]


def test_a_whole_part_is_taken_and_a_longer_one_thrown_away(server, tmp_path):
    (tmp_path / 'a.pth.partial.tag').write_text('"1"')
    (tmp_path / 'a.pth.partial').write_bytes(CONTENT)
    get(server.url('a.pth'), tmp_path / 'a.pth')
    assert names(tmp_path) == ['a.pth']
    (tmp_path / 'b.pth.partial.tag').write_text('"1"')
    (tmp_path / 'b.pth.partial').write_bytes(CONTENT + b'more')
    get(server.url('a.pth'), tmp_path / 'b.pth')
    assert (tmp_path / 'b.pth').read_bytes() == CONTENT


def test_what_does_not_pass_the_check_leaves_nothing(server, tmp_path):
    def check(partial):
        assert partial.read_bytes() == CONTENT
        raise InputError('another file')

    with pytest.raises(InputError, match='another file'):
        get(server.url('a.pth'), tmp_path / 'a.pth', check)
    assert names(tmp_path) == []


def test_servers_that_have_no_such_file(server, tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    with pytest.raises(InputError, match='the server says 404'):
        get(server.url('none.pth'), path)
    assert len(server.asked) == 1
    server.cuts = [('status', 503)]
    get(server.url('a.pth'), path)
    path.unlink()
    server.cuts = [('status', 503)] * 3
    with pytest.raises(InputError, match=r'broke off \(status 503\)'):
        get(server.url('a.pth'), path)
    for headers, message in (
        ({'Content-Type': 'text/html'}, 'is a page, not a file'),
        ({'Content-Length': None}, 'does not say how long'),
    ):
        monkeypatch.setattr(server, 'headers', headers)
        with pytest.raises(InputError, match=message):
            get(server.url('a.pth'), path)
    monkeypatch.setattr(server, 'headers', {})
    with pytest.raises(InputError, match='has 10,240 bytes, more than 10,000'):
        get(server.url('a.pth'), path, largest=10_000)
    monkeypatch.setattr(download.shutil, 'disk_usage', lambda folder: type('Usage', (), {'free': 10_000}))
    with pytest.raises(InputError, match=r'10,000 bytes left, and 10,240 of .*MMMIM_HOME'):
        get(server.url('a.pth'), path)
    assert names(tmp_path) == []


def test_nobody_there(server, tmp_path):
    url = server.url('a.pth')
    server.server_close()
    with pytest.raises(InputError, match=r'cannot be reached: .*refused'):
        get(url, tmp_path / 'a.pth')


def test_https_only_redirections_too(server, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r'ftp://127\.0\.0\.1/x is not downloaded'):
        get(server.url('redirect/ftp://127.0.0.1/x'), tmp_path / 'a.pth')
    monkeypatch.undo()
    for url in (server.url('a.pth'), f'file://{tmp_path}/a.pth'):
        with pytest.raises(InputError, match='addresses begin with https://'):
            get(url, tmp_path / 'a.pth')
