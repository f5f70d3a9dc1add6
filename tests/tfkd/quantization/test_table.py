"""The table of rules that `quantize_aware` follows."""

from tfkd.quantization import table


def test_a_custom_class_with_a_known_name_has_no_rule():
    class Dense:
        pass

    assert table.rule_of(Dense()) is None
