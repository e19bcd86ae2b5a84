"""Fields of messages: the standard's name and form outside, ours inside.

A model says each field once, by our name; a vocabulary gives the standard's. Outside is told from
inside by the validation context, which is the province's dialect: there money is yuan, a moment is
text in the province's form and yes is "1".
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    ValidationInfo,
)

from schemas.values import CHINA
from services.claim.nhsa.dialects import Dialect, Fields

YES, NO = "1", "0"
MONEY_PLACES, COUNT_PLACES = 2, 4
DIGITS_MAX = 16
Answer_ = TypeVar("Answer_", bound="Answer")
Outside = Callable[[Any, Dialect], Any]


def _field(read: Outside, write: Callable[[Any], Any]) -> tuple[BeforeValidator, PlainSerializer]:
    """A form of its own outside; inside the value is as it is."""

    def validate(value: Any, info: ValidationInfo) -> Any:
        return read(value, info.context) if isinstance(info.context, Dialect) else value

    def serialize(value: Any, info: SerializationInfo) -> Any:
        outside = isinstance(info.context, Dialect) and value is not None
        return write(value) if outside else value

    return BeforeValidator(validate), PlainSerializer(serialize)


def _number(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise ValueError("is no number")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("is no number") from None
    # Before anything is computed with it: 1e999999999 would fill the memory.
    if not number.is_finite() or number.adjusted() >= DIGITS_MAX:
        raise ValueError("is no number")
    return number


def _fen(value: Any, dialect: Dialect) -> Any:
    fen = _number(value).scaleb(MONEY_PLACES)
    if fen != int(fen):
        raise ValueError("has parts of a fen")
    return int(fen)


def _moment(value: Any, dialect: Dialect) -> datetime:
    if not isinstance(value, str):
        raise ValueError("is no moment")
    return dialect.moment(value)


def _flag(value: Any, dialect: Dialect) -> bool:
    if str(value) not in (YES, NO):
        raise ValueError("is neither 1 nor 0")
    return str(value) == YES


_MONEY = _field(_fen, lambda fen: Decimal(fen).scaleb(-MONEY_PLACES))
_MOMENT = _field(_moment, lambda moment: moment)
_DAY = _field(lambda value, dialect: value, lambda day: day.isoformat())
_FLAG = _field(_flag, lambda flag: YES if flag else NO)
_COUNT = _field(lambda value, dialect: _number(value), lambda count: count)

# What the standard calls mandatory is never empty.
Text = Annotated[str, Field(min_length=1)]
Money = Annotated[int, Field(ge=0), *_MONEY]
Moment = Annotated[datetime, *_MOMENT]
Day = Annotated[date, *_DAY]
Flag = Annotated[bool, *_FLAG]
Count = Annotated[Decimal, Field(ge=0, max_digits=20, decimal_places=COUNT_PLACES), *_COUNT]


class Part(BaseModel):
    """A part of a message; what is said beyond it is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True)

    @classmethod
    def inside(cls, dialect: Dialect, output: Any) -> Self:
        """From the standard's names and forms. Raises ValidationError with the standard's name."""
        return cls.model_validate(output, context=dialect, by_alias=True, by_name=False)

    def outside(self, dialect: Dialect) -> Fields:
        """By the standard's names; sums are Decimal yuan, moments are datetimes."""
        return self.model_dump(by_alias=True, exclude_none=True, context=dialect)


class Answer(Part):
    """What comes back; BLOCK is where in `output` it stands, "" for all of it."""

    BLOCK: ClassVar[str] = ""

    def refusal(self) -> tuple[str, str] | None:
        """Code and text when the business said no although the envelope said yes."""
        return None


class Ask(Part, Generic[Answer_]):
    """What is sent under INFNO; BLOCK is where in `input` it stands, ANSWER what comes back."""

    INFNO: ClassVar[str]
    BLOCK: ClassVar[str] = "data"
    ANSWER: ClassVar[type[Answer]]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """`Ask[Found]` says it already."""
        super().__pydantic_init_subclass__(**kwargs)
        for answer in cls.__pydantic_generic_metadata__["args"]:
            if isinstance(answer, type):
                cls.ANSWER = answer


def named(names: Mapping[str, str]) -> ConfigDict:
    """The configuration of models whose fields are called so by the standard."""

    def name(ours: str) -> str:
        return names[ours]

    return ConfigDict(frozen=True, extra="ignore", validate_by_name=True, alias_generator=name)


__all__ = [
    "CHINA",
    "Answer",
    "Ask",
    "Count",
    "Day",
    "Flag",
    "Moment",
    "Money",
    "Part",
    "Text",
    "named",
]
