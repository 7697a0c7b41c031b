# BEiT v2 ViT-B/16 (arXiv 2208.06366): BEiT's encoder with relative positions that all blocks share and none that are
# added; tokens of a tokenizer that was distilled from CLIP; they are predicted from the last block, and by the same
# linear layer from CLS and the patches of the ninth block after two more blocks, which are thrown away.
_base_ = './beit_vitb16.py'

model = dict(
    backbone=dict(positions='relative_shared', extra_positions=False, init='beit', drop_path_rate=0.0),
    branches=dict(
        tokens=dict(
            target_generator=dict(
                # The file vqkd_encoder.pth that OpenMMLab publishes with its BEiT configs.
                tokenizer=dict(type='mmmim.VQKDTokenizer', weights='checkpoints/vqkd_encoder.pth'),
            ),
            neck=dict(
                _delete_=True,
                type='mmmim.PatchAggregation',
                context_dim=768,
                out_dim=8192,
                early_layer=8,
                depth=2,
                num_heads=12,
                layer_scale=0.1,
            ),
            head=dict(
                _delete_=True,
                type='mmmim.CombinedHead',
                heads=dict(
                    last=dict(type='mmmim.CrossEntropyHead'),
                    early=dict(type='mmmim.CrossEntropyHead', of='early'),
                ),
            ),
        )
    ),
)
