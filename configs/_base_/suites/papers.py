# `mmmim benchmark CKPT --suite papers`: the protocols of CAPI, Latent MIM, PiLaMIM and SemanticMIM at their full size,
# those whose data are on the disk. Fitted ones come first, then those that train a head, which take hours on GPUs, and
# last those that train the encoder. Few shots take several seeds: tools/analysis_tools/repeat.py.
_knn = 'Whether images of the same class lie close to each other: a vote of the 20 nearest training images.'
_head = 'What a classifier on frozen features learns, trained with augmentation as the paper did it.'
_patches = 'What is written in single patches, as mean IoU of pixels.'
_sets = dict(
    imagenet='ImageNet-1k',
    imagenet100='ImageNet-100',
    inat2021_mini='iNaturalist 2021 mini',
    places205='Places205',
    places365='Places365',
    sun397='SUN397',
    cifar10='CIFAR-10',
    cifar100='CIFAR-100',
    clevr_count='CLEVR, count',
    clevr_distance='CLEVR, distance',
)
_top1 = 'accuracy/top1'

protocols = (
    {
        f'knn_{data}': dict(
            title=f'{name}, k-NN',
            measures=_knn,
            config='eval/cls_knn_imagenet',
            data=data,
            score=f'k_20/{_top1}',
        )
        for data, name in _sets.items()
    }
    | {
        f'knn_predicted_{data}': dict(
            title=f'{name}, k-NN, predictor pooling',
            measures=f'{_knn[:-1]}, by what the predictor says of every position, averaged (CAPI, table 5).',
            config='eval/cls_knn_imagenet',
            data=data,
            options={'model.features': 'predicted'},
            score=f'k_20/{_top1}',
        )
        for data, name in _sets.items()
        if data in ('imagenet', 'inat2021_mini', 'sun397')
    }
    | {
        f'nn_{data}': dict(
            title=f'{name}, nearest other image',
            measures='Whether the nearest other image of the validation set is of its class (Latent MIM, table 1).',
            config='eval/cls_nn_imagenet',
            data=data,
            score=f'leave_one_out/k_1/{_top1}',
        )
        for data, name in _sets.items()
        if data in ('imagenet', 'imagenet100')
    }
    | {
        f'seg_{probe}_{data}': dict(
            title=f'{name}, {words}',
            measures=f'{_patches[:-1]}: {words} (CAPI, table 3).',
            config=f'eval/seg_{probe}_{data}',
            score='capi/mIoU',
        )
        for data, name in dict(ade20k='ADE20K', voc2012='Pascal VOC 2012', cityscapes='Cityscapes').items()
        for probe, words in dict(knn='k-NN of patches', logreg='logistic regression of patches').items()
    }
    | dict(
        davis=dict(
            title='DAVIS-2017, J&F',
            measures='Whether patches find their object again in later frames: masks of the first frame are handed on.',
            config='eval/vos_davis2017',
            score='davis/J&F-Mean',
        ),
        sweep=dict(
            title='ImageNet-1k, 120 heads',
            measures=f'{_head} Linear and attentive heads of CAPI, the best of all rates and weight decays.',
            config='eval/cls_sweep',
            score=_top1,
        ),
        sweep_predicted=dict(
            title='ImageNet-1k, 120 heads with predictor pooling',
            measures=f'{_head} The same with the feature of a predictor in the place of CLS (CAPI, table 5).',
            config='eval/cls_sweep_predicted',
            score=_top1,
        ),
    )
    | {
        f'linear_{paper}': dict(
            title=f'ImageNet-1k, linear probe of {name}', measures=_head, config=f'eval/cls_linear_{paper}', score=_top1
        )
        for paper, name in dict(
            mae='MAE', latent_mim='Latent MIM', pilamim='PiLaMIM', semantic_mim='SemanticMIM', beit='BEiT'
        ).items()
    }
    | {
        f'linear_pilamim_{data}': dict(
            title=f'{_sets[data]}, linear probe of PiLaMIM',
            measures=_head,
            config=f'eval/cls_linear_pilamim_{data.split("_")[0].rstrip("01")}',
            data=data,
            score=_top1,
        )
        for data in ('cifar10', 'cifar100', 'clevr_count', 'clevr_distance')
    }
    | dict(
        seg_linear_voc2012=dict(
            title='Pascal VOC 2012, linear',
            measures='What a linear layer on the patches of a frozen encoder learns, as mean IoU (SemanticMIM).',
            config='eval/seg_linear_voc2012',
            score='mIoU',
        ),
        seg_upernet_ade20k=dict(
            title='ADE20K, UPerNet',
            measures='What the encoder learns when it is trained on, as mean IoU.',
            config='eval/seg_upernet_ade20k',
            score='mIoU',
        ),
        finetune_mae=dict(
            title='ImageNet-1k, fine-tuned',
            measures='What the encoder learns when it is trained on: accuracy after the recipe of MAE.',
            config='eval/cls_finetune_mae_vitb16',
            score=_top1,
        ),
    )
)
