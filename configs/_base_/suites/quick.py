# `mmmim benchmark CKPT --suite quick`: what needs no download and no training of a head, on FashionScenes; minutes on a
# CPU. Random weights are measured beside every encoder, so evaluations without labels leave theirs out.
protocols = dict(
    knn=dict(
        title='k-NN, pooled',
        measures='Whether images of the same kind of garment lie close to each other: a vote of the 20 nearest '
        'training images by the average of the patch tokens.',
        config='eval/cls_knn_fashion',
        score='k_20/accuracy/top1',
    ),
    knn_cls=dict(
        title='k-NN, CLS',
        measures='The same by the CLS token, or the mean of several.',
        config='eval/cls_knn_fashion',
        options={'model.features': 'cls'},
        score='k_20/accuracy/top1',
    ),
    knn_predicted=dict(
        title='k-NN, predictor pooling',
        measures='The same by what the predictor says of every position, averaged (CAPI, table 5).',
        config='eval/cls_knn_fashion',
        options={'model.features': 'predicted'},
        score='k_20/accuracy/top1',
    ),
    nn=dict(
        title='nearest other image',
        measures='Whether the nearest other test image is of the same kind, by the average before the final norm '
        '(Latent MIM, table 1).',
        config='eval/cls_nn_fashion',
        score='leave_one_out/k_1/accuracy/top1',
    ),
    logreg=dict(
        title='logistic regression',
        measures='What a linear classifier finds in the average of the patch tokens.',
        config='eval/cls_logreg_fashion',
        score='accuracy/top1',
    ),
    seg_knn=dict(
        title='segmentation, k-NN',
        measures='Whether patches of the same part of an image lie close to each other: mean IoU of pixels that the '
        'nearest training patches vote for (CAPI, table 3).',
        config='eval/seg_knn_fashion',
        score='capi/mIoU',
    ),
    seg_logreg=dict(
        title='segmentation, linear',
        measures='What a linear classifier says of every patch, as mean IoU of pixels (CAPI, table 3).',
        config='eval/seg_logreg_fashion',
        score='capi/mIoU',
    ),
    blocks=dict(
        title='blocks, logistic regression',
        measures='Where in the encoder the kind of a garment can be read: logistic regression on the average of the '
        'patch tokens of every block.',
        config='eval/cls_logreg_fashion',
        score='accuracy/top1',
        blocks=True,
    ),
    clusters=dict(
        title='clusters of patches',
        measures='Whether clusters of the patches of an image are its garments and its background, without any '
        'training: mean IoU under the best matching (after Latent MIM, figure 6).',
        config='eval/cluster_fashion',
        options={'+test_cfg.random': False},
        score='clusters/mIoU_classes',
    ),
    tokencut=dict(
        title='object discovery, TokenCut',
        measures='Whether one box around the most salient object is right, without labels: CorLoc.',
        config='eval/discovery_tokencut_fashion',
        options={'+test_cfg.random': False},
        score='discovery/CorLoc',
    ),
    videos=dict(
        title='objects in videos, J&F',
        measures='Whether patches find their object again in later frames: masks of the first frame are handed '
        'on (DINO).',
        config='eval/vos_fashion',
        score='davis/J&F-Mean',
    ),
)
