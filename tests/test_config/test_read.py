"""Configs of one's own on those of mmmim."""

import pytest

from mmmim.config.read import load_config


@pytest.mark.parametrize('name', ['capi/small', 'eval/seg_linear_fashion'])
def test_a_base_by_its_package(tmp_path, name):
    """``package::file``, as mmengine names bases of other packages, is the config itself."""
    own = tmp_path / 'own.py'
    own.write_text(f"_base_ = 'mmmim::{name}.py'\n")
    assert load_config(str(own)).to_dict() == load_config(name).to_dict()
    own.write_text(f"_base_ = 'mmmim::{name}.py'\nmodel = dict(type=_base_.model.type, _delete_=True)\n")
    assert load_config(str(own)).model.to_dict() == {'type': load_config(name).model.type}
