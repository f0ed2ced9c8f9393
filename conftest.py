"""The suite's hooks and fixtures, by name only; what they do is in `pgload/`."""

from pgload.fixtures import (  # noqa: F401
    dataset,
    open_site,
    pass_number,
    run_client,
    run_load,
    run_pairs,
    runner,
    sites,
)
from pgload.suite import (  # noqa: F401
    pytest_addoption,
    pytest_benchmark_update_json,
    pytest_benchmark_update_machine_info,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_generate_tests,
    pytest_ignore_collect,
    pytest_report_header,
    pytest_report_teststatus,
    pytest_runtestloop,
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
)
