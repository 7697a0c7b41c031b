# data2vec 2.0 ViT-B/16 (arXiv 2212.07525): the encoder sees the visible patches, with norms after sums; a decoder of
# six convolutions predicts the mean of what the MLPs of the last ten blocks of the EMA of the encoder add, each
# normalised over the patches of an image; CLS predicts the mean of these targets over all patches.
#
# The released loss is a sum over channels over sqrt(768), which is sqrt(768) times their mean; that of CLS is 0.01
# times such a sum over all 256 masks of a GPU's 16 images, whatever the number of masked patches.
model = dict(
    type='mmmim.MaskedImageModeling',
    data_preprocessor=dict(type='mmmim.MIMDataPreprocessor'),
    backbone=dict(
        type='mmmim.ViT',
        img_size=224,
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        post_norm=True,
        embedding_norm=True,
        final_norm=False,
        init='data2vec2',
    ),
    branches=dict(
        latent=dict(
            target_generator=dict(
                type='mmmim.LatentTarget',
                in_dim=768,
                layers=(2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
                state='mlp',
                normalize_layers='instance',
                normalize='layer',
                global_target='mean',
            ),
            neck=dict(
                type='mmmim.ConvolutionalDecoder',
                context_dim=768,
                embed_dim=768,
                depth=6,
                kernel=3,
                groups=16,
                out_dim=768,
                noise_std=0.01,
            ),
            head=dict(
                type='mmmim.CombinedHead',
                heads=dict(
                    patches=dict(type='mmmim.RegressionHead', weight=768**0.5),
                    cls=dict(type='mmmim.RegressionHead', of='cls', weight=0.01 * 256 * 768**0.5),
                ),
            ),
        )
    ),
    teacher=['backbone'],
    micro_batch_size=None,
)
