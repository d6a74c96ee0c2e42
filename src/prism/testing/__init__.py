"""Shipped for tests, ours and others': each port's suite, drivers that fail on purpose, and a whole Prism in-process.

class TestMine(BlobSuite):                         # testing.blob_suite: a driver's whole test file is its factory
    @pytest.fixture
    async def driver(self, tmp_path): ...

async with running_app() as prism:                 # testing.running: real servers on free ports, over memory
    PrismClient("user-uploads", endpoint=prism.grpc)
"""
