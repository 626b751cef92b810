"""The architecture of one model as plain, validated data."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapcli.errors import FileError, UsageError
from adapcli.space import ConfigSpace, Configuration

Task = Literal["classification", "features", "distillation", "segmentation", "depth", "centres"]
DENSE_TASKS: tuple[Task, ...] = ("segmentation", "depth", "centres")
CLASS_TASKS: tuple[Task, ...] = ("classification", "distillation", "segmentation")
Size = Annotated[int, Field(ge=1, le=65_536)]
Pixels = Annotated[int, Field(ge=1, le=4096)]

# A config.json is a stranger's text: bounds keep it from asking for more memory than any such model has.
MAX_PARAMETERS = 20_000_000_000


class ModelConfig(BaseModel):
    """What an AdaPerceiver is made of (paper section 3; names of this project, sizes as published).

    `widths` and `embed_dim` are in embedding units; an FFN of width w has `hidden(w) = int(w * ffn_ratio)`
    units. `token_granularities` are the token counts trained for; they also delimit the groups of the block
    mask. `block_widths` are the widths whose units each block holds, where an extracted model holds fewer
    than embed_dim's; a block that is asked for more runs all it has. `decoder`: what makes maps of a dense
    task's features: the published linear probe, or convolutions that double the grid `decoder_stages` times
    and begin with `decoder_dim` channels, halved at each doubling.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())

    task: Task = "classification"
    embed_dim: Size = 832
    num_heads: Size = 13
    depth: Annotated[int, Field(ge=1, le=1000)] = 21
    max_latent_tokens: Size = 256
    token_granularities: tuple[Size, ...] = (32, 64, 96, 128, 192, 256)
    widths: tuple[Size, ...] = (416, 624, 832)
    block_widths: tuple[Size, ...] | None = None
    ffn_ratio: Annotated[float, Field(gt=0, le=64)] = 2.57
    image_size: Pixels = 224
    patch_size: Pixels = 16
    in_channels: Annotated[int, Field(ge=1, le=1024)] = 3
    num_classes: Size | None = None
    output_feat_dim: Size | None = None
    mask: Literal["block", "causal", "none"] = "block"
    ffn: Literal["mlp", "swiglu"] = "mlp"
    use_embed_ffn: bool = True
    use_output_ffn: bool = False
    qkv_bias: bool = True
    proj_bias: bool = True
    rope_theta: Annotated[float, Field(ge=1, le=1e9)] = 10000.0
    layer_scale_init: Annotated[float, Field(ge=0, le=10)] = 1e-5
    token_init_std: Annotated[float, Field(ge=0, le=10)] = 0.02
    num_bins: Annotated[int, Field(ge=2, le=65_536)] = 256
    min_depth: Annotated[float, Field(gt=0, le=1e6)] = 0.001
    max_depth: Annotated[float, Field(gt=0, le=1e6)] = 10.0
    decoder: Literal["linear", "conv"] = "linear"
    decoder_dim: Size = 256
    decoder_stages: Annotated[int, Field(ge=0, le=6)] = 2

    @model_validator(mode="after")
    def _consistent(self) -> "ModelConfig":
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> list[str]:
        heads, widths, tokens = self.num_heads, self.widths, self.token_granularities
        own = self.block_widths
        held, holder = own or (self.embed_dim,), "embed_dim" if own is None else "the widest of block_widths,"
        needs_classes = self.task in CLASS_TASKS
        checks = [
            (
                self.embed_dim % (2 * heads) == 0,
                f"embed_dim {self.embed_dim}: not 2 * num_heads * an integer",
            ),
            (_ascending(widths), f"widths {list(widths)}: not ascending"),
            (_ascending(tokens), f"token_granularities {list(tokens)}: not ascending"),
            (bool(widths) and widths[-1] <= self.widest, f"widths: beyond {holder} {self.widest}"),
            (
                bool(tokens) and tokens[-1] <= self.max_latent_tokens,
                "token_granularities: beyond max_latent_tokens",
            ),
            (bool(widths) and self.hidden(widths[0]) >= 1, "widths: the narrowest has no hidden unit"),
            (own is None or len(own) == self.depth, f"block_widths: expected one per block, {self.depth}"),
            (max(held) <= self.embed_dim, f"block_widths: beyond embed_dim {self.embed_dim}"),
            (self.hidden(min(held)) >= 1, "block_widths: a block has no hidden unit"),
            (self.image_size >= self.patch_size, f"image_size {self.image_size}: smaller than one patch"),
            (self.num_classes is not None or not needs_classes, f"num_classes: needed for {self.task}"),
            (self.output_feat_dim is not None or self.task == "classification", "output_feat_dim: needed"),
            (self.min_depth < self.max_depth, "min_depth: not below max_depth"),
            (self.decoder == "linear" or self.is_dense, f"decoder: a {self.task} model draws no maps"),
            (
                self.decoder == "linear" or self.decoder_dim >> self.decoder_stages >= 1,
                f"decoder_dim {self.decoder_dim}: no channel left after {self.decoder_stages} halvings",
            ),
            (self._parameters() <= MAX_PARAMETERS, f"sizes: more than {MAX_PARAMETERS:.0e} parameters"),
        ]
        return [text for holds, text in checks if not holds]

    def _parameters(self) -> int:
        d, grid = self.embed_dim, self.image_size // self.patch_size
        per_block = 4 * d * d + 3 * d * self.hidden(d)
        outputs = d * max(self.num_classes or 0, self.output_feat_dim or 0)
        if self.decoder == "conv":
            outputs += 9 * self.decoder_dim * ((self.output_feat_dim or 0) + self.decoder_dim)
        return (
            (self.depth + 4) * per_block
            + self.in_channels * self.patch_size**2 * d
            + grid * grid * d
            + outputs
        )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What differs from the defaults is shown."""
        for name, value in super().__repr_args__():
            if name is None or value != type(self).model_fields[name].default:
                yield name, value

    def hidden(self, width: int) -> int:
        """FFN hidden units at `width`: the one place where embedding units become hidden units."""
        return int(width * self.ffn_ratio)

    def block_hidden(self, configuration: Configuration) -> tuple[int, ...]:
        """FFN hidden units of each block that runs, shallowest first."""
        asked, held = configuration.widths(), self.block_widths
        widths = asked if held is None else map(min, asked, held)
        return tuple(self.hidden(width) for width in widths)

    @property
    def widest(self) -> int:
        """The largest width that can be run."""
        return max(self.block_widths or (self.embed_dim,))

    @property
    def classifies(self) -> bool:
        """Whether the model answers with the class of an image, written into one learned token."""
        return self.task in ("classification", "distillation")

    @property
    def is_dense(self) -> bool:
        """Whether the model answers with a map: a value for every pixel."""
        return self.task in DENSE_TASKS

    @property
    def map_channels(self) -> int:
        """Of a dense task's maps: a logit for each class, metres, or rows and columns; else 0."""
        return {"segmentation": self.num_classes or 0, "depth": 1, "centres": 2}.get(self.task, 0)

    @property
    def decoder_channels(self) -> tuple[int, ...]:
        """Of the convolutional decoder: channels before the first doubling of the grid, and after each."""
        return tuple(self.decoder_dim >> stage for stage in range(self.decoder_stages + 1))

    @property
    def head_dim(self) -> int:
        """Channels per attention head."""
        return self.embed_dim // self.num_heads

    @property
    def space(self) -> ConfigSpace:
        """Every configuration the model was made for."""
        return ConfigSpace(self.token_granularities, self.widths, tuple(range(1, self.depth + 1)))

    @property
    def full_configuration(self) -> Configuration:
        """All tokens, the full width, all blocks."""
        return Configuration(self.token_granularities[-1], self.widths[-1], self.depth)

    @property
    def has_prefix_property(self) -> bool:
        """Whether the first t tokens of a longer run equal a run with t tokens (not with mask none)."""
        return self.mask != "none"

    def check(self, configuration: Configuration) -> None:
        """Raise UsageError, naming what is allowed, unless such a model can run `configuration`.

        Any number of tokens, and any width that a block holds, can be run, whether trained for or not.
        """
        if configuration.tokens < 1:
            raise UsageError(f"tokens {configuration.tokens}: expected 1 or more")
        if not 1 <= configuration.depth <= self.depth:
            raise UsageError(f"depth {configuration.depth}: not allowed", f"allowed: 1..{self.depth}")
        widths = configuration.widths()
        if len(widths) != configuration.depth:
            raise UsageError(f"width: {len(widths)} values for depth {configuration.depth}")
        self.check_widths(widths)

    def check_widths(self, widths: Iterable[int]) -> None:
        """Raise UsageError unless every width has a hidden unit and some block holds it."""
        for width in widths:
            if width > self.widest or self.hidden(width) < 1:
                raise UsageError(f"width {width}: not allowed", f"allowed: up to {self.widest}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON. What is newer than the format is left out where it says nothing."""
        silent = {"block_widths"} if self.block_widths is None else set()
        if self.decoder == "linear":
            silent |= {"decoder", "decoder_dim", "decoder_stages"}
        return self.model_dump(mode="json", exclude=silent)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Build from this project's own keys. FileError names the field and the reason."""
        if not isinstance(values, Mapping):
            raise FileError(f"model config: expected an object with fields, got {type(values).__name__}")
        try:
            return cls.model_validate(
                {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
            )
        except ValidationError as error:
            raise FileError(f"model config: {_first_problem(error)}") from error
        except (TypeError, RecursionError) as error:
            raise FileError(f"model config: {error}") from error

    @classmethod
    def from_published(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Build from the keys of a published `config.json` or training configuration; own keys are known too.

        FileError names unknown keys, wrong types and values out of range.
        """
        from adapcli.model.published import translate_config

        return cls.from_dict(translate_config(values))


def _ascending(values: tuple[int, ...]) -> bool:
    return bool(values) and list(values) == sorted(set(values))


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])[:80]
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        reason = "unknown key"
    return f"{field} {shown(first['input'])}: {reason}" if field else reason


def shown(value: object) -> str:
    """A stranger's value in a message: a nest of lists that hold each other would never end."""
    return repr(value)[:40] if isinstance(value, str | float | bool | None) else _whole(value)


def _whole(value: object) -> str:
    small = isinstance(value, int) and abs(value) < 10**40
    return str(value) if small else f"({type(value).__name__})"
