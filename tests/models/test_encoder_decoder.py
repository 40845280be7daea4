"""The encoder–decoder against torch's own, and what must not leak from where to where."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models import (
    EncoderDecoderConfig,
    EncoderDecoderModel,
    create_model,
    load_pretrained,
    make_config,
    save_pretrained,
    store_weights,
)
from toolkit.models.cross_attention import CrossAttention

V, C, H = 13, 32, 4
SHAPE: dict[str, Any] = {
    "block_size": 16, "n_layer": 3, "n_encoder_layer": 2, "n_head": H, "n_embd": C, "n_inner": 48,
    "dropout": 0.0,
}  # fmt: skip


def make(**options: Any) -> EncoderDecoderModel:
    """A model whose numbers are all drawn, norms and biases too: none of them is without effect."""
    model = EncoderDecoderModel(EncoderDecoderConfig(V, **{**SHAPE, **options}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model.eval()


def batch(seed: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, targets and sources of three rows, of which two are padded on both sides."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(0, V - 3, (3, 6), generator=generator)
    target = torch.randint(0, V - 3, (3, 5), generator=generator)
    targets = target.clone()
    ids = torch.cat([torch.full((3, 1), V - 2), target[:, :-1]], dim=1)
    for row, (s, t) in enumerate(((6, 5), (4, 3), (1, 2))):
        source[row, s - 1] = V - 3
        source[row, s:] = V - 1
        targets[row, t - 1] = V - 3
        targets[row, t:] = -100
        ids[row, t:] = V - 1
    return ids, targets, source


# -- against torch ----------------------------------------------------------------------------


def torch_transformer(model: EncoderDecoderModel, *, norm_first: bool) -> nn.Transformer:
    """torch's module with our weights."""
    config = model.config
    theirs = nn.Transformer(
        config.n_embd,
        config.n_head,
        config.n_encoder_layer,
        config.n_layer,
        config.n_inner,
        dropout=0.0,
        batch_first=True,
        norm_first=norm_first,
    )
    if not norm_first:  # torch's has norms after the stacks that the paper has not
        theirs.encoder.norm = theirs.decoder.norm = None
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        side, _, rest = name.partition(".")
        if side in ("encoder", "decoder"):
            found[f"{side}.{rest.replace('blocks', 'layers')}"] = tensor
    renamed: dict[str, Tensor] = {}
    for name, tensor in found.items():
        decodes = name.startswith("decoder")
        for ours, new in (
            ("attn.qkv.weight", "self_attn.in_proj_weight"),
            ("attn.qkv.bias", "self_attn.in_proj_bias"),
            ("attn.proj", "self_attn.out_proj"),
            ("cross.proj", "multihead_attn.out_proj"),
            ("mlp.up", "linear1"),
            ("mlp.down", "linear2"),
            ("norm2", "norm3" if decodes else "norm2"),
            ("cross_norm", "norm2"),
        ):
            if ours in name:
                name = name.replace(ours, new)
                break
        renamed[name] = tensor
    for name in [name for name in renamed if ".cross.q." in name]:
        kv = renamed.pop(name.replace("cross.q", "cross.kv"))
        new = name.replace("cross.q.", "multihead_attn.in_proj_")
        renamed[new] = torch.cat([renamed.pop(name), kv])
    theirs.load_state_dict(renamed)
    return theirs.train()  # without dropout the same; torch's fast path is not what is compared


def waves(t: int, c: int) -> Tensor:
    """Section 3.5 of the paper, in float64."""
    table = np.zeros((t, c))
    for position in range(t):
        for i in range(0, c, 2):
            angle = position / 10000 ** (i / c)
            table[position, i], table[position, i + 1] = math.sin(angle), math.cos(angle)
    return torch.from_numpy(table).float()


@pytest.mark.parametrize("order", ["post", "pre"])
def test_it_is_torchs_transformer(order: str) -> None:
    model = make(norm_order=order)
    ids, targets, source = batch()
    theirs = torch_transformer(model, norm_first=order == "pre")
    table = model.tok_emb.weight
    x = table[source] * C**0.5 + waves(source.size(1), C)
    y = table[ids] * C**0.5 + waves(ids.size(1), C)
    padded = source == V - 1
    causal = nn.Transformer.generate_square_subsequent_mask(ids.size(1))
    expected = theirs(
        x, y, tgt_mask=causal, src_key_padding_mask=padded, memory_key_padding_mask=padded
    )
    expected = expected @ table.T
    logits, loss = model(ids, targets, source)
    # float32 through five layers; logits up to about 10.
    torch.testing.assert_close(
        logits, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max())
    )
    assert loss is not None
    plain = F.cross_entropy(expected.flatten(0, 1), targets.flatten(), ignore_index=-100)
    assert float(loss) == pytest.approx(float(plain), rel=1e-5)


def test_gradients_are_those_of_torchs_transformer() -> None:
    model = make(tie_embeddings=False)
    ids, targets, source = batch()
    assert model.source_emb is not None
    assert model.head is not None
    theirs = torch_transformer(model, norm_first=False)
    padded = source == V - 1
    out = theirs(
        model.source_emb.weight.detach()[source] * C**0.5 + waves(6, C),
        model.tok_emb.weight.detach()[ids] * C**0.5 + waves(5, C),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(5),
        src_key_padding_mask=padded,
        memory_key_padding_mask=padded,
    )
    logits = out @ model.head.weight.detach().T
    F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100).backward()
    loss = model(ids, targets, source).loss
    assert loss is not None
    loss.backward()
    expected = theirs.encoder.layers[0].self_attn.in_proj_weight.grad
    found = model.get_parameter("encoder.blocks.0.attn.qkv.weight").grad
    assert expected is not None
    assert found is not None
    # The longest way back: through three decoder and two encoder layers.
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5 * float(expected.abs().max()))


# -- what must not leak -----------------------------------------------------------------------


@pytest.mark.parametrize("order", ["post", "pre"])
def test_a_later_target_token_changes_nothing_before_it(order: str) -> None:
    model = make(norm_order=order)
    ids, _, source = batch()
    before = model(ids, None, source).logits
    for place in range(1, ids.size(1)):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] + 1) % (V - 3)
        after = model(changed, None, source).logits
        assert after[:, :place].equal(before[:, :place])
        assert not after[:, place].equal(before[:, place])


def test_what_is_padded_is_not_read() -> None:
    model = make()
    ids, _, source = batch()
    mask = source != V - 1
    before = model(ids, None, source, mask).logits
    assert before.equal(model(ids, None, source).logits)  # the mask that padding says
    changed = torch.where(mask, source, (source + 5) % (V - 3))
    assert model(ids, None, changed, mask).logits.equal(before)
    seen = source.clone()
    seen[0, 5] = (seen[0, 5] + 1) % (V - 3)  # the last token of the longest row is read
    after = model(ids, None, seen, mask).logits
    assert not after[0].equal(before[0])
    assert after[1:].equal(before[1:])


def test_a_row_does_not_depend_on_the_others() -> None:
    model = make()
    ids, _, source = batch()
    before = model(ids, None, source).logits
    others = ids.clone(), source.clone()
    others[0][0], others[1][0] = others[0][0].roll(1), others[1][0].flip(0)
    after = model(others[0], None, others[1]).logits
    assert after[1:].equal(before[1:])
    assert not after[0].equal(before[0])


@pytest.mark.parametrize("num_source_ids", [0, V + 4])
def test_padding_is_as_if_it_were_not_there(num_source_ids: int) -> None:
    """Each row alone and unpadded: the same logits, and together the same loss."""
    model = make(source_vocab_size=num_source_ids)
    ids, targets, source = batch()
    if num_source_ids:  # a vocabulary of its own has another end and padding
        source = torch.where(source >= V - 3, source + 4, source)
    logits, loss = model(ids, targets, source)
    losses = []
    for row in range(3):
        t = int((targets[row] >= 0).sum())
        s = int((source[row] != model.config.source_padding_id).sum())
        alone = model(ids[row : row + 1, :t], targets[row : row + 1, :t], source[row : row + 1, :s])
        # Sums of another length are rounded in another order.
        torch.testing.assert_close(alone.logits[0], logits[row, :t], rtol=1e-5, atol=2e-5)
        assert alone.loss is not None
        losses.append(float(alone.loss) * t)
    assert loss is not None
    assert float(loss) == pytest.approx(sum(losses) / int((targets >= 0).sum()), rel=1e-5)


def test_gradients_do_not_come_from_padding() -> None:
    model = make(tie_embeddings=False)
    ids, targets, source = batch()
    loss = model(ids, targets, source).loss
    assert loss is not None
    loss.backward()
    assert model.source_emb is not None
    for table in (model.source_emb, model.tok_emb):
        assert table.weight.grad is not None
        assert not table.weight.grad[V - 1].any()
        assert table.weight.grad[: V - 3].any()


# -- generation -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["post", "pre"])
def test_with_a_cache_it_computes_the_same(order: str) -> None:
    model = make(norm_order=order)
    ids, _, source = batch()
    whole = model(ids, None, source).logits
    cache = model.start(source, capacity=1)  # which has to grow
    found = [model.extend(ids[:, :2], cache)]
    found += [model.extend(ids[:, place : place + 1], cache) for place in range(2, 5)]
    torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=1e-5, atol=2e-5)
    assert cache.length == 5
    cache.select([2, 0])
    longer = torch.tensor([[1], [4]])
    again = torch.cat([ids[[2, 0]], longer], dim=1)
    expected = model(again, None, source[[2, 0]]).logits[:, -1]
    torch.testing.assert_close(
        model.extend(longer, cache, last_only=True)[:, 0], expected, rtol=1e-5, atol=2e-5
    )


def test_what_a_cache_takes() -> None:
    """Keys and values of three layers, of 16 positions of a target and 6 tokens of a source."""
    _, _, source = batch()
    assert make().start(source).numbers_per_row == 2 * 3 * C * (16 + 6)


def test_a_cache_ends_with_the_positions() -> None:
    model = make(block_size=4)
    cache = model.start(torch.tensor([[1, V - 3]]))
    model.extend(torch.tensor([[V - 2, 1, 2, 3]]), cache)
    with pytest.raises(UsageError, match="5 tokens is longer than the model's --block-size 4"):
        model.extend(torch.tensor([[1]]), cache)
    gpt = create_model("gpt", V, size="nano", n_layer=1)
    wrong = gpt.new_cache()
    assert wrong is not None
    with pytest.raises(UsageError, match="holds no source"):
        model.extend(torch.tensor([[1]]), wrong)


# -- parts, files and wrong input -------------------------------------------------------------


def test_embeddings_are_shared_as_they_are_said_to_be() -> None:
    shared = EncoderDecoderModel(EncoderDecoderConfig(V, **SHAPE))
    assert shared.source_emb is None
    assert shared.head is None
    two = EncoderDecoderModel(EncoderDecoderConfig(V, source_vocab_size=9, **SHAPE))
    assert two.source_emb is not None
    assert two.source_emb.weight.shape == (9, C)
    assert two.head is None
    apart = EncoderDecoderModel(EncoderDecoderConfig(V, tie_embeddings=False, **SHAPE))
    assert apart.num_params() == shared.num_params() + 2 * V * C


def test_matrices_begin_with_the_variance_of_their_own_shape() -> None:
    model = EncoderDecoderModel(EncoderDecoderConfig(100, n_embd=128, n_layer=1))
    weights = dict(model.named_parameters())
    query, _, _ = weights["decoder.blocks.0.attn.qkv.weight"].split(128)
    _, value = weights["decoder.blocks.0.cross.kv.weight"].split(128)
    for matrix in (query, value, weights["decoder.blocks.0.mlp.up.weight"]):
        n_out, n_in = matrix.shape
        bound = math.sqrt(6 / (n_in + n_out))
        assert bound * 0.999 < float(matrix.abs().max()) <= bound
        # A uniform's deviation is bound/√3; of 16,384 numbers it is estimated to about 0.4%.
        assert float(matrix.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert float(weights["tok_emb.weight"].std()) == pytest.approx(128**-0.5, rel=0.03)
    assert not weights["decoder.blocks.0.cross.kv.bias"].any()
    again = EncoderDecoderModel(EncoderDecoderConfig(100, n_embd=128, n_layer=1))
    assert all(p.equal(q) for p, q in zip(model.parameters(), again.parameters(), strict=True))


def test_dropout_is_where_the_paper_has_it() -> None:
    """Section 5.4: of the sums of embeddings and positions, and of what each part puts out; and as
    in its code, of attention weights. With 1/2 a number is lost or doubled."""
    model = make(dropout=0.5)
    ids, _, source = batch()
    found: dict[str, list[Tensor]] = {}

    def note(name: str, value: Tensor) -> None:
        found.setdefault(name, []).append(value.detach())

    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        stack.blocks[0].register_forward_pre_hook(
            lambda _, inputs, side=side: note(side, inputs[0])
        )
    cross = model.get_submodule("decoder.blocks.0.cross")
    cross.get_submodule("proj").register_forward_hook(lambda _, __, out: note("before", out))
    cross.register_forward_hook(lambda _, __, out: note("after", out))
    torch.manual_seed(0)
    for training in (False, True):
        model.train(training)
        model(ids, None, source)

    def check(plain: Tensor, dropped: Tensor) -> None:
        kept = dropped != 0
        assert 0.2 < float(kept.float().mean()) < 0.8
        torch.testing.assert_close(dropped, torch.where(kept, 2 * plain, 0.0))

    check(*found["encoder"])
    check(*found["decoder"])
    check(found["before"][1], found["after"][1])
    assert found["before"][0].equal(found["after"][0])

    # With values that tell tokens apart and nothing else, what comes out is the weights.
    assert isinstance(cross, CrossAttention)
    eye = torch.eye(C // H).expand(1, H, -1, -1)  # (1, H, S, D) with S = D
    keys = torch.randn(1, H, C // H, C // H)
    x, seen = torch.randn(1, 5, C), torch.ones(1, 1, 1, C // H, dtype=torch.bool)
    cross.add_module("proj", nn.Identity())  # what comes out is the heads side by side
    cross.proj_dropout.p = 0.0
    plain = cross.eval()(x, (keys, eye), seen)
    check(plain, cross.train()(x, (keys, eye), seen))


@pytest.mark.parametrize("mlp", ["relu", "gelu", "relu2", "swiglu"])
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_every_part_learns(mlp: Any, norm: Any) -> None:
    """And nothing is left without a gradient."""
    model = EncoderDecoderModel(
        EncoderDecoderConfig(V, source_vocab_size=V, mlp=mlp, norm=norm, bias=False, **SHAPE)
    )
    ids, targets, source = batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = model(ids, targets, source).loss
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.3 < 1.5 < losses[0]
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_activations_can_be_computed_again() -> None:
    ids, targets, source = batch()
    gradients = []
    for checkpointing in (False, True):
        model = make()
        model.gradient_checkpointing = checkpointing
        loss = model(ids, targets, source).loss
        assert loss is not None
        loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        assert plain is not None
        assert again is not None
        assert plain.equal(again)


def test_it_is_saved_and_opened_again(tmp_path: Path) -> None:
    model = make(source_vocab_size=V)
    save_pretrained(model, tmp_path)
    again = load_pretrained(tmp_path)
    assert isinstance(again, EncoderDecoderModel)
    assert again.config == model.config
    ids, _, source = batch()
    assert again(ids, None, source).logits.equal(model(ids, None, source).logits)


def test_weights_in_fewer_bits_are_near() -> None:
    model = make()
    ids, _, source = batch()
    small = store_weights(model, "bfloat16")
    assert isinstance(small, EncoderDecoderModel)
    exact, near = model(ids, None, source).logits, small(ids, None, source).logits
    # 8 bits of precision in every matrix.
    assert 0 < float((exact - near).abs().max()) < 0.05 * float(exact.abs().max())


def test_the_operations_are_counted() -> None:
    model = make()
    inner = SHAPE["n_inner"]
    encoder = 2 * (4 * C * C + 2 * C * inner)
    decoder = 3 * (8 * C * C + 2 * C * inner)
    heads = (2 + 2 * 3) * C
    assert model.flops_per_token() == 6 * (encoder + decoder + V * C) + 12 * heads * 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_embd": 30}, "--n-embd 30 must be divisible by --n-head 4"),
        ({"n_embd": 15, "n_head": 5}, "--n-embd 15 must be even for sinusoidal positions"),
        ({"n_layer": 0}, "--n-layer 0 must be a whole number of at least 1"),
        ({"n_encoder_layer": -1}, "--n-encoder-layer -1 must be a whole number"),
        ({"dropout": 1.0}, "--dropout 1.0 must be at least 0 and below 1"),
        ({"source_vocab_size": 3}, "--source-vocab-size 3 must be above 3"),
        ({"tie_embeddings": 1}, "--tie-embeddings 1 must be true or false"),
        ({"rope_theta": 1.0}, "The model encoder-decoder has no --rope-theta"),
        ({"end_id": 3}, "The model encoder-decoder has no --end-id"),
        ({"preset": "gpt2"}, "--preset gpt2 is for the model gpt"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_config("encoder-decoder", V, **options)
    assert message in str(caught.value)


def test_the_places_of_the_special_ids() -> None:
    usual = EncoderDecoderConfig(9, source_vocab_size=8, n_embd=8)
    assert (usual.end_id, usual.begin_id, usual.padding_id) == (6, 7, 8)
    assert (usual.source_end_id, usual.source_padding_id) == (5, 7)
    assert (usual.has_usual_ids, usual.num_written_ids) == (True, 7)
    other = EncoderDecoderConfig(9, n_embd=8, end_id=1, begin_id=0, padding_id=0)
    assert (other.end_id, other.source_end_id) == (1, 1)
    assert (other.begin_id, other.padding_id, other.source_padding_id) == (0, 0, 0)
    assert (other.has_usual_ids, other.num_written_ids) == (False, 9)
    wrong: Any
    for wrong in (9, -2, "1"):
        with pytest.raises(UsageError, match=r"padding_id .* is no id of a vocabulary of 9"):
            EncoderDecoderConfig(9, n_embd=8, padding_id=wrong)


def test_a_wrong_name_is_named() -> None:
    with pytest.raises(UnknownNameError, match="mlp 'silu'"):
        make_config("encoder-decoder", V, mlp="silu")
    with pytest.raises(UsageError, match="--vocab-size 3 must be above 3"):
        make_config("encoder-decoder", 3)


def test_wrong_inputs_are_refused() -> None:
    model = make()
    ids, targets, source = batch()
    with pytest.raises(UsageError, match="give it a source"):
        model(ids, targets)
    with pytest.raises(UsageError, match="2 sources and 3 targets"):
        model(ids, targets, source[:2])
    with pytest.raises(UsageError, match="source hold 13, which is no token"):
        model(ids, targets, source + 1)
    with pytest.raises(UsageError, match="A source of 18 tokens is longer"):
        model(ids, targets, source.repeat(1, 3))
    with pytest.raises(UsageError, match="no token at all"):
        model(ids, targets, torch.full_like(source, V - 1))
    with pytest.raises(UsageError, match="source_mask must be booleans of shape"):
        model(ids, targets, source, torch.ones(3, 5, dtype=torch.bool))
    with pytest.raises(UsageError, match="source must be int64 or int32"):
        model(ids, targets, source.float())
