# `mmmim benchmark CKPT --suite all`: quick.py, papers.py, and what is in neither.
include = ['quick', 'papers']

protocols = (
    {
        f'{method}_{data}': dict(
            title=f'{name}, {words}',
            measures='Whether one box around the most salient object is right, without labels: CorLoc.',
            config=f'eval/discovery_{method}_{data}',
            options={'+test_cfg.random': False},
            score='discovery/CorLoc',
        )
        for data, name in dict(voc2007='Pascal VOC 2007', voc2012='Pascal VOC 2012', coco20k='COCO-20k').items()
        for method, words in dict(tokencut='TokenCut', lost='LOST', dinoseg="DINO's masks").items()
    }
    | {
        f'clusters_{data}': dict(
            title=f'{name}, clusters of patches',
            measures='Whether clusters of the patches of an image are its classes: mean IoU under the best matching.',
            config=f'eval/cluster_{data}',
            options={'+test_cfg.random': False},
            score='clusters/mIoU_classes',
        )
        for data, name in dict(voc2012='Pascal VOC 2012', ade20k='ADE20K').items()
    }
    | {
        f'{task}_{probe}_nyuv2': dict(
            title=f'NYUv2, {words}, {how}',
            measures=f'Whether {words} can be read from single patches: {what}.',
            config=f'eval/{task}_{probe}_nyuv2',
            score=score,
            unit=unit,
            higher=False,
        )
        for task, words, what, score, unit in (
            ('depth', 'depth', 'root mean square error in metres', 'depth/rmse', 'm'),
            ('normals', 'surface normals', 'mean angle in degrees', 'normals/mean', 'degrees'),
        )
        for probe, how in dict(linear='linear regression', knn='k-NN').items()
    }
)
