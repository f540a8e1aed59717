import pytest

pytest.register_assert_rewrite("flts_assets_tests.stores.object_store_contract")
