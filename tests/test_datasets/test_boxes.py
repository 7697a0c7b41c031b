"""Data sets with boxes: tiny folders in their layouts, hostile files, what is missing."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmmim.datasets.boxes.coco import image_number
from mmmim.datasets.boxes.label_map_boxes import boxes_of_labels
from mmmim.datasets.boxes.xml import parse_xml
from mmmim.registry import DATASETS, TRANSFORMS
from mmmim.utils import InputError
from tests.boxes import COCO, OBJECTS, VOC, annotation, write_coco, write_voc


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_voc(tmp_path / VOC)
    write_coco(tmp_path / COCO)


def build(kind, **options):
    root = VOC if kind == 'VOCBoxes' else COCO
    return DATASETS.build({'type': f'mmmim.{kind}', 'data_root': root, 'pipeline': [], **options})


def boxes(dataset):
    return {Path(i['img_path']).name: i['gt_bboxes'] for i in map(dataset.get_data_info, range(len(dataset)))}


def test_boxes_of_voc():
    """1 less at the left and at the top alone; hard objects can be left out, and images without others with them."""
    expected = {
        '000.jpg': [(4, 6, 20, 30), (0, 0, 64, 48)],
        '001.jpg': [(9, 9, 30, 40)],
        '002.jpg': [(0, 1.5, 8, 12)],
    }
    assert boxes(build('VOCBoxes')) == expected
    assert boxes(build('VOCBoxes', no_hard=True)) == {'000.jpg': [(4, 6, 20, 30)], '002.jpg': [(0, 1.5, 8, 12)]}
    assert list(boxes(build('VOCBoxes', split='val'))) == ['001.jpg']
    loaded = build('VOCBoxes', pipeline=[{'type': 'mmmim.LoadImage'}])[0]
    assert loaded['img'].shape == (48, 64, 3)


def test_boxes_of_coco():
    """Corners are rounded, groups are left out, and so are images without a box; the list decides the order."""
    assert boxes(build('COCOBoxes')) == {
        'COCO_train2014_000000000009.jpg': [(0, 2, 4, 8)],
        'COCO_train2014_000000000002.jpg': [(10, 12, 12, 16), (2, 2, 4, 4)],
    }
    everything = boxes(build('COCOBoxes', list_file=''))
    assert len(everything) == 3
    lines = {'train2014/COCO_train2014_000000000009.jpg': 9, '9': 9, 'a_12.png ': 12, '000000581929.jpg': 581929}
    assert {line: image_number(line, 'list') for line in lines} == lines
    with pytest.raises(InputError, match="has a line 'train2014/', which names no image"):
        image_number('train2014/', 'list')


BOMB = (
    b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    b'<annotation><object><bndbox><xmin>&c;</xmin></bndbox></object></annotation>'
)
OUTSIDE = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (BOMB, 'a document type, which may declare entities'),
        (OUTSIDE, 'a document type, which may declare entities'),
        (b'<!DOCTYPE a SYSTEM "http://example.org/a.dtd"><annotation/>', 'a document type'),
        (b'<annotation>&undeclared;</annotation>', 'no XML: undefined entity'),
        (b'<a>' * 60 + b'</a>' * 60, 'more than 50 elements lie inside each other'),
        (b'<annotation><object>', 'no XML: no element found'),
        (b'', 'no XML: no element found'),
        (b'\xff\xfe<', 'no XML'),
        (b'<?xml version="1.0" encoding="none-such"?><a/>', 'no XML'),
    ],
)
def test_xml_that_does_harm(data, message):
    with pytest.raises(InputError, match=f'a.xml is no annotation file .*{message}'):
        parse_xml(data, 'a.xml')


def test_the_reader_of_annotations_looks_into_no_other_file(monkeypatch):
    """Whatever the parser of the library would expand."""
    Path(VOC, 'Annotations/000.xml').write_bytes(BOMB)
    with pytest.raises(InputError, match=r'000\.xml is no annotation file'):
        build('VOCBoxes')
    Path(VOC, 'Annotations/000.xml').write_bytes(b' ' * (2**22 + 1))
    with pytest.raises(InputError, match='more than 4194304'):
        build('VOCBoxes')


@pytest.mark.parametrize(
    ('replaced', 'by', 'message'),
    [
        ('<xmin>5</xmin>', '<xmin>five</xmin>', "bndbox/xmin is 'five' and no number"),
        ('<xmin>5</xmin>', '', "bndbox/xmin is 'nothing' and no number"),
        ('<xmin>5</xmin>', '<xmin>nan</xmin>', 'a box from'),
        ('<xmin>5</xmin>', '<xmin>50</xmin>', r'a box from \(49, 6\) to \(20, 30\)'),
        ('<difficult>0', '<difficult>no', "difficult is 'no' and no number"),
    ],
)
def test_annotations_that_say_something_else(replaced, by, message):
    text = annotation(OBJECTS['000'])
    assert replaced in text
    Path(VOC, 'Annotations/000.xml').write_text(text.replace(replaced, by))
    with pytest.raises(InputError, match=rf'000\.xml has .*{message}'):
        build('VOCBoxes')


def coco_with(change):
    path = Path(COCO, 'annotations/instances_train2014.json')
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda found: found.pop('images'), "is no file of instances of COCO .*'images'"),
        (lambda found: found['annotations'][0].update(bbox=[1, 2, 3]), 'is no file of instances'),
        (lambda found: found['annotations'][0].update(bbox=[1, 2, -3, 4]), 'has a box from'),
        (lambda found: found['annotations'][0].update(bbox=[1, 2, float('inf'), 4]), 'is no file of instances'),
        (lambda found: found['annotations'][0].update(bbox='boxes'), 'is no file of instances'),
        (lambda found: found['images'][0].update(id='2'), 'a whole number as id'),
        (lambda found: found['images'].pop(), 'lacks 1 of the 2 listed images, such as 9'),
        (lambda found: found['images'][0].update(file_name='../../a.jpg'), 'which lies outside'),
        (lambda found: found['images'][0].update(file_name='/etc/passwd'), 'which lies outside'),
        (lambda found: found.update(annotations=[]), 'name no image with a box'),
    ],
)
def test_instances_that_say_something_else(change, message):
    coco_with(change)
    with pytest.raises(InputError, match=message):
        build('COCOBoxes')


def test_lists_name_files_inside_the_folder():
    for name in ('../../../secret', '/etc/passwd'):
        Path(VOC, 'ImageSets/Main/trainval.txt').write_text(f'000\n{name}\n')
        with pytest.raises(InputError, match='which lies outside'):
            build('VOCBoxes')
    with pytest.raises(InputError, match='which lies outside'):
        build('VOCBoxes', split='../../../../secret')
    with pytest.raises(InputError, match='which lies outside'):
        build('COCOBoxes', list_file='../list.txt')


@pytest.mark.parametrize(
    ('kind', 'gone', 'needs'),
    [
        ('VOCBoxes', 'ImageSets/Main/trainval.txt', 'JPEGImages/, Annotations/'),
        ('VOCBoxes', 'Annotations/001.xml', 'JPEGImages/, Annotations/'),
        ('VOCBoxes', 'JPEGImages/000.jpg', 'JPEGImages/, Annotations/'),
        ('COCOBoxes', 'annotations/instances_train2014.json', 'train2014/ of train2014.zip'),
        ('COCOBoxes', 'coco_20k_filenames.txt', 'train2014/ of train2014.zip'),
        ('COCOBoxes', 'train2014/COCO_train2014_000000000009.jpg', 'train2014/ of train2014.zip'),
    ],
)
def test_what_is_missing(kind, gone, needs):
    Path(VOC if kind == 'VOCBoxes' else COCO, gone).unlink()
    with pytest.raises(InputError) as info:
        build(kind)
    message = str(info.value)
    assert gone in message
    assert needs in message
    assert 'Nothing is downloaded: docs/en/dataset_prepare.md#objects-pascal-voc-coco-20k says where' in message
    assert '\n' not in message
    with pytest.raises(InputError, match='none is missing'):
        build(kind, data_root='none')


def test_boxes_around_what_a_label_map_shows():
    labels = np.array(
        [
            [1, 3, 1, 3, 1, 5],
            [3, 1, 1, 3, 1, 5],
            [1, 1, 1, 1, 1, 4],
        ]
    )
    # Corners connect; labels do not.
    expected = {(0, 0, 2, 2), (3, 0, 4, 2), (5, 0, 6, 2), (5, 2, 6, 3)}
    assert set(boxes_of_labels(labels, (0, 1))) == expected
    assert set(boxes_of_labels(labels, (0, 1), least=2)) == expected - {(5, 2, 6, 3)}
    transform = TRANSFORMS.build({'type': 'mmmim.BoxesOfLabelMap', 'background': [1], 'least': 2})
    assert transform({'gt_seg_map': labels, 'img_path': 'a.png'})['gt_bboxes'] == boxes_of_labels(labels, [1], 2)
    with pytest.raises(InputError, match=r'The label map of a\.png shows no object'):
        transform({'gt_seg_map': np.ones((2, 2), int), 'img_path': 'a.png'})
