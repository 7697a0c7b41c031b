"""The command ``mmmim`` and those of its subcommands that are no tools."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

import mmmim
from mmmim.cli import main as command
from mmmim.cli.main import COMMANDS, main
from mmmim.config.read import load_config
from tests.paths import ROOT

CHEAP = """
import sys
from mmmim.cli.main import COMMANDS, main
lists = [['list', 'capi'], ['list', '--papers', 'CAPI']]
for words in [['--help'], *([name, '--help'] for name in COMMANDS), *lists, ['--version']]:
    try:
        main(words)
    except SystemExit as end:
        assert not end.code, words
    early = {'torch', 'mmengine', 'mmpretrain', 'mmseg', 'cv2', 'numpy'} & set(sys.modules)
    assert not early, (words, early)
"""


def test_a_reader_that_has_enough():
    """``mmmim list | head -1`` ends without a word, as other programs do."""
    process = subprocess.Popen(
        [sys.executable, '-c', 'from mmmim.cli.main import main; main()', 'list'],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert process.stderr.read() == ''
    assert process.wait() == 128 + 13


def test_help_is_cheap_and_tells_the_commands():
    done = subprocess.run(
        [sys.executable, '-c', CHEAP],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, (_, words) in COMMANDS.items():
        assert re.search(rf'^  {name} +{re.escape(words)}$', done.stdout, re.MULTILINE)
        assert f'usage: mmmim {name} ' in done.stdout
    assert 'capi/small' in done.stdout.splitlines()
    assert f'mmmim {mmmim.__version__}' in done.stdout.splitlines()


@pytest.mark.parametrize(('words', 'message'), [
    (['trian'], "error: 'trian' is no command of mmmim: did you mean train?"),
    (['zzz', '--help'], "error: 'zzz' is no command of mmmim: there are train, test, benchmark,"),
    ([], 'mmmim: error: the following arguments are required: COMMAND'),
    (['train', 'none.py'], 'error: The config none.py does not exist'),
    (['test'], 'mmmim test: error: the following arguments are required: config'),
    (['convert', 'none.pth', 'out.pth'], 'error: The checkpoint none.pth does not exist'),
    (['parity', 'capy', 'none.npz'], "error: There is no replay of 'capy': use one of capi"),
    (['config', 'capi/small', '--cfg-options', 'model.tipe=a'], 'error: --cfg-options model.tipe=a:'),
    (['list', 'capy'], "error: No config that comes with mmmim has a name like 'capy': did you mean capi?"),
    (['list', 'zzzz'], 'mmmim list shows all names.'),
    (['list', '--papers', 'zzzz'], "like 'zzzz': there are BEiT v2, CAPI, CrossMAE, EVA and MILAN, I-JEPA,"),
    (['list', '--papers', 'Latent MIM tabel 3'], 'did you mean Latent MIM table 3'),
])  # fmt: skip
def test_wrong_words_are_one_sentence(words, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['mmmim', *words])
    with pytest.raises(SystemExit, match='2'):
        main()
    err = capsys.readouterr().err
    assert message in err
    assert err.count('error:') == 1
    assert not list(tmp_path.iterdir())


def test_a_command_gets_its_words_and_gives_its_status(monkeypatch):
    seen = []
    monkeypatch.setitem(COMMANDS, 'new', command.Command('mmmim.cli.new', 'something'))
    monkeypatch.setitem(
        sys.modules, 'mmmim.cli.new', SimpleNamespace(main=lambda: seen.append(list(sys.argv)) or len(seen))
    )
    monkeypatch.setattr(sys, 'argv', ['mmmim', 'new', 'a', '--version'])
    assert main() == 1
    assert main(['new', '--help']) == 2
    assert seen == [['mmmim new', 'a', '--version'], ['mmmim new', '--help']]


def test_names_of_configs(capsys, monkeypatch):
    def listed(*words):
        monkeypatch.setattr(sys, 'argv', ['mmmim'])
        main(['list', *words])
        return capsys.readouterr().out.splitlines()

    names = listed()
    assert [name for name in names if not name.startswith('eval/')] == mmmim.list_models()
    assert set(listed('--ablations')) - set(names) == set(mmmim.list_models('*/ablations/*')) != set()
    assert 'eval/seg_linear_fashion' in names
    assert not any('_base_' in name for name in names)
    assert listed('capi/*') == mmmim.list_models('capi/*', ablations=True)
    assert listed('capi/small') == ['capi/small', 'capi/small_gpu']


def test_tables_of_papers(capsys, monkeypatch):
    def listed(*words):
        monkeypatch.setattr(sys, 'argv', ['mmmim'])
        main(['list', '--papers', *words])
        return capsys.readouterr().out

    text = listed('latent mim table 3')
    assert '### Latent MIM, table 3: correlation of nearby patches\n' in text
    row = """
## masks of 90 %, gap 0
DIR=work_dirs/latent_mim/ablations/ratio_90_contiguous
mmmim train latent_mim/ablations/ratio_90_contiguous --work-dir $DIR
CKPT=$(cat $DIR/last_checkpoint)
# ImageNet-100 nearest neighbour, top-1 [leave_one_out/k_1/accuracy/top1]: 53.3 (reported, not run here)
MMMIM_DATA=imagenet100 mmmim test eval/cls_nn_imagenet --pretrained $CKPT --weights student --work-dir $DIR/nn100
# ImageNet-100 linear probe, top-1: 70.4 (reported, not run here)
mmmim train eval/cls_linear_latent_mim_imagenet100 --pretrained $CKPT --weights student --work-dir $DIR/lp100
# ImageNet-100 fine-tuning, top-1: 87.6 (reported, not run here)
mmmim train eval/cls_finetune_latent_mim_imagenet100 --pretrained $CKPT --weights student --work-dir $DIR/ft100
"""
    assert row in text
    assert text.count('\n## ') == 5
    # A row by its config, a table and its parts, a paper alone, a column by its config.
    assert listed('capi/ablations/ratio_55').count('\n## ') == 1
    assert listed('CAPI table 1').count('\n### ') == 9
    assert listed('Latent MIM table 1').count('\n### ') == 1
    assert listed('MAE').count('\n#### ') == 1
    assert 'SimMIM' not in listed('eval/vos_davis2017')
    everything = listed()
    assert max(map(len, everything.splitlines())) <= 120
    done = subprocess.run(['bash', '-n'], input=everything, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, '')
    assert (
        '## SimMIM, 800 epochs: no recipe here\n# ImageNet-1k linear probe 56.7 (reported, not run here)' in everything
    )
    # One run, three scores.
    assert everything.count('--pretrained $CKPT --weights student --work-dir $DIR/jf\n') == 2
    assert '$DIR/j\n' not in everything


def test_a_printed_config_is_the_whole_of_it(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['mmmim'])
    main(['config', 'capi/small', '--cfg-options', 'train_cfg.max_iters=7', '~probe_data'])
    (tmp_path / 'printed.py').write_text(capsys.readouterr().out)
    expected = load_config('capi/small').to_dict()
    assert expected.pop('probe_data')
    assert expected['train_cfg'].pop('max_iters') != 7
    printed = load_config(str(tmp_path / 'printed.py')).to_dict()
    assert printed['train_cfg'].pop('max_iters') == 7
    assert printed == expected
