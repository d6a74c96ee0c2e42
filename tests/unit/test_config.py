"""What an operator notices of the configuration: what loads, what overrides what, and how mistakes are named."""

import contextlib
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism.config import Config, LocalStore, S3Store, Secret, describe, load
from prism.errors import ErrorCode, PrismError

SEED = """
# Namespace configuration for object storage
namespaces:
  - name: user-uploads
    backend: minio
    pattern: objectstore
    config:
      endpoint: "localhost:9000"
      access_key: "prism"
      secret_key: "prismpassword"
      bucket: "prism-objects"
      use_ssl: false # Local dev
      default_ttl_seconds: 7776000 # 90 days

  - name: build-artifacts
    backend: s3
    pattern: objectstore
    config:
      endpoint: "s3.amazonaws.com"
      region: "us-east-1"
      bucket: "prism-builds"
      use_ssl: true
      default_ttl_seconds: 2592000 # 30 days
"""
LOCAL = "namespaces: [{name: mine, backend: memory, config: {bucket: some-bucket%s}}]\n"

Load = Callable[..., Config]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Load a configuration from text, with variables."""

    def do(text: str = "", environment: Mapping[str, str] | None = None, **overrides: str) -> Config:
        path = tmp_path / "prism.yaml"
        path.write_text(text)
        at = {key.replace("__", "."): value for key, value in overrides.items()}
        return load(path, environment or {}, data_dir=tmp_path / "data", overrides=at)

    return do


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(PrismError) as caught:
        action()
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    return caught.value.message


def named(config: Config, name: str) -> S3Store:
    store = next(space.store for space in config.namespaces if space.name == name)
    assert isinstance(store, S3Store)
    return store


class TestWithoutAFile:
    def test_serves_three_namespaces_on_local_folders(self, tmp_path: Path) -> None:
        config = load(None, {}, data_dir=tmp_path)
        assert [(s.name, s.bucket, s.default_ttl_seconds, s.no_expiration_default) for s in config.namespaces] == [
            ("user-uploads", "prism-objects", 7_776_000, False),
            ("build-artifacts", "prism-builds", 2_592_000, False),
            ("matyan-artifacts", "matyan-artifacts", None, True),
        ]
        assert config.namespaces[0].store == LocalStore(root=tmp_path / "blobs" / "user-uploads")
        assert config.meta.url == f"sqlite:///{tmp_path}/catalog.sqlite"
        assert config.audit.path == tmp_path / "audit.jsonl"

    def test_listens_on_loopback_with_the_embedded_key_pairs(self) -> None:
        config = load(None, {})
        assert config.data_dir == Path.cwd() / "prism-data"
        assert (config.server.grpc.address, config.server.http.port, config.server.s3.port) == (
            "127.0.0.1:50051",
            8080,
            8333,
        )
        assert config.namespaces[0].s3_access_key == "user-uploads"
        assert config.namespaces[0].s3_secret.reveal() == "prism-local-user-uploads"

    def test_other_peoples_variables_are_not_settings(self) -> None:
        environment = {
            "PRISM_PORT": "tcp://10.0.0.1:80",
            "PRISM_ENDPOINT": "elsewhere:1",
            "PRISM_API_KEY": "k",
            "OTHER__THING": "1",
            "PRISM_META__URL": "",
        }
        assert load(None, environment) == load(None, {})


class TestSeed:
    def test_both_namespaces_load_word_for_word(self, loaded: Load) -> None:
        config = loaded(SEED)
        uploads, builds = config.namespaces
        assert (uploads.backend, uploads.bucket, uploads.default_ttl_seconds) == ("minio", "prism-objects", 7_776_000)
        assert (builds.backend, builds.bucket, builds.default_ttl_seconds) == ("s3", "prism-builds", 2_592_000)
        minio, s3 = named(config, "user-uploads"), named(config, "build-artifacts")
        assert minio.endpoint == "http://localhost:9000"
        assert minio.access_key == "prism"
        assert minio.secret_key == Secret("prismpassword")
        assert s3.endpoint == "https://s3.us-east-1.amazonaws.com"
        assert (s3.access_key, s3.secret_key) == (None, None)

    def test_container_variables_override_every_minio_namespace_and_no_other(self, loaded: Load) -> None:
        environment = {
            "PRISM_OBJECTSTORE_ENDPOINT": "minio:9000",
            "PRISM_OBJECTSTORE_ACCESS_KEY": "prism-test",
            "PRISM_OBJECTSTORE_SECRET_KEY": "prism-test-password",
        }
        config = loaded(SEED, environment)
        minio = named(config, "user-uploads")
        assert (minio.endpoint, minio.access_key) == ("http://minio:9000", "prism-test")
        assert minio.secret_key == Secret("prism-test-password")
        assert named(config, "build-artifacts") == named(loaded(SEED), "build-artifacts")

    def test_a_variable_for_one_namespace_goes_before_the_one_for_all(self, loaded: Load) -> None:
        environment = {
            "PRISM_OBJECTSTORE_ENDPOINT": "for-all:1",
            "PRISM_NAMESPACES__USER_UPLOADS__ENDPOINT": "for-one:2",
        }
        assert named(loaded(SEED, environment), "user-uploads").endpoint == "http://for-one:2"

    def test_sections_below_may_be_given_without_namespaces(self, loaded: Load) -> None:
        assert len(loaded("server: {http: 127.0.0.1:0}\n").namespaces) == 3


class TestPrecedence:
    def test_command_line_over_variable_over_file_over_default(self, loaded: Load) -> None:
        text, variable = "server: {http: '127.0.0.1:1', shutdown_seconds: 3}\n", {"PRISM_SERVER__HTTP": "127.0.0.1:2"}
        assert loaded(text).server.http.port == 1
        assert loaded(text, variable).server.http.port == 2
        last = loaded(text, variable, server__http__address="127.0.0.1:3")
        assert (last.server.http.port, last.server.shutdown_seconds, last.server.grpc.port) == (3, 3, 50051)

    def test_an_address_and_its_long_form_are_the_same(self, loaded: Load) -> None:
        long = loaded("server: {http: {address: '127.0.0.1:9', public_url: 'https://up.example'}}\n").server.http
        assert (long.address, long.public_url) == ("127.0.0.1:9", "https://up.example")
        environment = {"PRISM_SERVER__HTTP__PUBLIC_URL": "https://up.example"}
        assert loaded("server: {http: '127.0.0.1:9'}\n", environment).server.http == long
        assert loaded("", environment).server.http.address == "127.0.0.1:8080"

    @pytest.mark.parametrize("segment", ["USER_UPLOADS", "user-uploads", "User_Uploads__CONFIG"])
    def test_namespaces_are_addressed_by_name(self, loaded: Load, segment: str) -> None:
        config = loaded("", {f"PRISM_NAMESPACES__{segment}__DEFAULT_TTL_SECONDS": "60"})
        assert [space.default_ttl_seconds for space in config.namespaces] == [60, 2_592_000, None]

    def test_names_that_a_variable_cannot_tell_apart_are_refused(self, loaded: Load) -> None:
        text = "namespaces: [{name: a-b, backend: memory}, {name: a_b, backend: memory, bucket: other}]\n"
        text = text.replace("a-b, backend: memory", "a-b, backend: memory, bucket: one")
        variable = "PRISM_NAMESPACES__A.B__VERSIONING"
        assert "a-b and a_b are written alike" in refusal(lambda: loaded(text, {variable: "true"}))
        exact = loaded(text, {"PRISM_NAMESPACES__A_B__VERSIONING": "true"})
        assert [space.versioning for space in exact.namespaces] == [False, True]

    def test_words_from_variables_take_the_type_of_their_setting(self, loaded: Load) -> None:
        config = loaded(
            "",
            {
                "PRISM_AUDIT__READS": "false",
                "PRISM_LIMITS__READ_GRACE_SECONDS": "0.5",
                "PRISM_SERVER__CORS_ORIGINS": "https://a.example, https://b.example",
                "PRISM_AUTH__MODE": "open",
            },
        )
        assert config.audit.reads is False
        assert config.limits.read_grace_seconds == 0.5
        assert config.server.cors_origins == ("https://a.example", "https://b.example")
        assert config.auth.mode == "open"

    def test_the_same_setting_in_two_spellings_is_refused(self, loaded: Load) -> None:
        environment = {"PRISM_META__URL": "memory:", "PRISM_META__url": "memory:"}
        assert "PRISM_META__URL and PRISM_META__url are the same setting" in refusal(lambda: loaded("", environment))


class TestNamespaces:
    def test_settings_stand_in_config_or_beside_it_but_not_in_both(self, loaded: Load) -> None:
        inside = loaded("namespaces: [{name: a, backend: memory, config: {bucket: bbb, allow_infinite_ttl: true}}]\n")
        beside = loaded("namespaces: [{name: a, backend: memory, bucket: bbb, allow_infinite_ttl: true}]\n")
        assert inside == beside
        assert inside.namespaces[0].allow_infinite_ttl
        both = "namespaces: [{name: a, backend: memory, bucket: bbb, config: {bucket: bbb}}]\n"
        assert "bucket stands beside config and in it" in refusal(lambda: loaded(both))

    def test_every_backend_parses(self, loaded: Load) -> None:
        config = loaded(
            """
namespaces:
  - {name: a, backend: minio, config: {endpoint: "https://store:9000/", bucket: aaa, access_key: k, secret_key: s}}
  - {name: b, backend: s3, config: {region: eu-west-1, bucket: bbb, prefix: "deep/er/"}}
  - {name: c, backend: gcs, config: {bucket: ccc}}
  - {name: d, backend: azure, config: {bucket: ddd, access_key: account, endpoint: "http://127.0.0.1:1/account"}}
  - {name: eee, backend: local}
  - {name: fff, backend: memory}
"""
        )
        assert [type(space.store).__name__ for space in config.namespaces] == [
            *("S3Store", "S3Store", "GCSStore", "AzureStore", "LocalStore", "MemoryStore")
        ]
        assert named(config, "a").endpoint == "https://store:9000"
        assert named(config, "b").endpoint == "https://s3.eu-west-1.amazonaws.com"
        assert [space.bucket for space in config.namespaces[4:]] == ["eee", "fff"]

    def test_the_run_namespace_does_not_expire_unless_it_says_so(self, loaded: Load) -> None:
        text = "runs: {namespace: mine}\n" + LOCAL
        assert loaded(text % "").namespaces[0].no_expiration_default
        timed = loaded(text % ", default_ttl_seconds: 60").namespaces[0]
        assert (timed.no_expiration_default, timed.default_ttl_seconds) == (False, 60)

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("namespaces: []\n", ["namespaces", "at least one"]),
            ("namespaces: {a: b}\n", ["namespaces", "a list"]),
            ("namespaces: [a]\n", ["namespaces[0]", "mapping"]),
            ("namespaces: [{backend: memory}]\n", ["namespaces[0].name", "null", "a-z 0-9"]),
            ("namespaces: [{name: A, backend: memory}]\n", ["namespaces[0].name", "'A'", "a-z 0-9"]),
            ("namespaces: [{name: a__b, backend: memory}]\n", ["'a__b'"]),
            ("namespaces: [{name: 1, backend: memory}]\n", ["namespaces[0].name", "1"]),
            ("namespaces: [{name: aaa}]\n", ["namespaces.aaa.backend is missing", "minio", "local"]),
            ("namespaces: [{name: aaa, backend: ceph}]\n", ["namespaces.aaa.backend", "'ceph'", "minio, s3"]),
            ("namespaces: [{name: aaa, backend: memory, pattern: queue}]\n", ["aaa.pattern", "'queue'", "objectstore"]),
            ("namespaces: [{name: aaa, backend: memory, config: 3}]\n", ["namespaces.aaa.config", "a mapping"]),
            ("namespaces: [{name: aaa, backend: s3, config: {}}]\n", ["namespaces.aaa.bucket is missing", "3 to 63"]),
            ("namespaces: [{name: aaa, backend: minio, config: {bucket: bbb}}]\n", ["aaa.endpoint is missing"]),
            ("namespaces: [{name: a, backend: memory}]\n", ["namespaces.a.bucket", "'a'", "3 to 63"]),
            (LOCAL % ", endpoint: x", ["namespaces.mine.endpoint", "backend memory"]),
            (LOCAL % ", buckets: x", ["namespaces.mine.buckets", "did you mean bucket?"]),
            (LOCAL % ", default_ttl_seconds: 0", ["mine.default_ttl_seconds", "0", "from 1 to 3155760000"]),
            (LOCAL % ", default_ttl_seconds: '60'", ["mine.default_ttl_seconds", "'60'", "whole number"]),
            (LOCAL % ", no_expiration_default: true", ["mine.no_expiration_default", "allow_infinite_ttl"]),
            (LOCAL % ", s3_access_key: x", ["namespaces.mine", "s3_access_key and s3_secret", "together"]),
            ("namespaces: [{name: aaa, backend: memory}, {name: aaa, backend: memory}]\n", ["'aaa'", "twice"]),
            (SEED.replace("use_ssl: true", "use_ssl: false"), ["build-artifacts.use_ssl", "false", "always uses TLS"]),
            (SEED.replace('"localhost:9000"', '"https://x:9000"'), ["user-uploads", "use_ssl is false", "https://"]),
            (SEED.replace('"localhost:9000"', '"ftp://x"'), ["user-uploads.endpoint", "ftp://x", "http://"]),
            (SEED.replace('"localhost:9000"', '"a b:x"'), ["user-uploads.endpoint", "host:port"]),
            (SEED.replace('"localhost:9000"', '"a b:1"'), ["user-uploads.endpoint", "host:port"]),
            (SEED.replace("use_ssl: false", "ca_file: /no/such"), ["user-uploads.ca_file", "/no/such", "PEM"]),
            (SEED.replace("use_ssl: false", "ca_file: /dev/null"), ["user-uploads.ca_file", "/dev/null", "PEM"]),
            (SEED.replace('access_key: "prism"', ""), ["user-uploads", "access_key and secret_key", "together"]),
            ("runs: {namespace: other}\n" + LOCAL % "", ["runs.namespace", "'other'", "mine"]),
        ],
    )
    def test_mistakes_are_named(self, loaded: Load, text: str, parts: list[str]) -> None:
        message = refusal(lambda: loaded(text))
        assert not [part for part in parts if part not in message], message

    @pytest.mark.parametrize(
        ("one", "other", "shared"),
        [
            ("root: /x/y", "root: /x/y", True),
            ("root: /x/y", "root: /x/../x/y/z", True),
            ("root: /x/y", "root: /x/yz", False),
        ],
    )
    def test_two_namespaces_never_share_a_folder(self, loaded: Load, one: str, other: str, shared: bool) -> None:
        text = "namespaces: [{name: aaa, backend: local, @}, {name: bbb, backend: local, @}]\n".replace(
            "@", one, 1
        ).replace("@", other)
        if shared:
            assert "namespaces.bbb: its bytes lie at" in refusal(lambda: loaded(text))
        else:
            assert len(loaded(text).namespaces) == 2

    @pytest.mark.parametrize(
        ("one", "other", "shared"),
        [
            ("bucket: bbb", "bucket: bbb", True),
            ("bucket: bbb, prefix: a/", "bucket: bbb", True),
            ("bucket: bbb, prefix: a/", "bucket: bbb, prefix: a/b/", True),
            ("bucket: bbb, prefix: a/", "bucket: bbb, prefix: ab/", False),
            ("bucket: bbb", "bucket: bbbb", False),
        ],
    )
    def test_two_namespaces_never_share_a_prefix(self, loaded: Load, one: str, other: str, shared: bool) -> None:
        text = "namespaces: [{name: aaa, backend: s3, @}, {name: bbb, backend: s3, @}]\n".replace("@", one, 1).replace(
            "@", other
        )
        if shared:
            assert "namespaces.bbb: its bytes lie at" in refusal(lambda: loaded(text))
        else:
            assert len(loaded(text).namespaces) == 2

    def test_a_root_that_holds_the_catalog_is_refused(self, loaded: Load, tmp_path: Path) -> None:
        text = f"namespaces: [{{name: aaa, backend: local, root: {tmp_path}}}]\n"
        assert "namespaces.aaa.root" in refusal(lambda: loaded(text))

    def test_an_access_key_belongs_to_one_namespace(self, loaded: Load) -> None:
        text = (
            "namespaces: [{name: aaa, backend: memory}, {name: bbb, backend: memory, s3_access_key: aaa, s3_secret: s}]"
        )
        assert "namespaces.bbb.s3_access_key" in refusal(lambda: loaded(text))


class TestUnsafeCombinations:
    @pytest.mark.parametrize("address", ["127.0.0.1:0", "127.9.9.9:1", "localhost:1", "[::1]:1"])
    def test_loopback_needs_no_auth(self, loaded: Load, address: str) -> None:
        assert loaded("", {}, server__s3__address=address).server.s3.address == address

    @pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", ":1", "10.0.0.1:1", "example.org:1", "localhost.x:1"])
    @pytest.mark.parametrize("server", ["grpc", "http", "s3"])
    def test_other_addresses_need_it_in_so_many_words(self, loaded: Load, server: str, address: str) -> None:
        message = refusal(lambda: loaded("", {f"PRISM_SERVER__{server.upper()}": address}))
        assert f"server.{server}.address" in message
        assert address in message
        assert "auth: open" in message
        assert loaded("auth: open\n", {f"PRISM_SERVER__{server.upper()}": address}).auth.mode == "open"

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("server: {cors_origins: ['*']}\n", ["server.cors_origins", "*"]),
            ("server: {http: '127.0.0.1:7', s3: '127.0.0.1:7'}\n", ["server.s3.address", "another server"]),
            ("server: {http: '127.0.0.1:70000'}\n", ["server.http.address", "65535"]),
            ("server: {http: nonsense}\n", ["server.http.address", "'nonsense'", "host:port"]),
            ("server: {http: [a]}\n", ["server.http.address", "host:port"]),
            ("server: {http: {public_url: 'ftp://x'}}\n", ["server.http.public_url", "ftp://x", "https://host"]),
            ("server: {tls: {cert_file: /x}}\n", ["server.tls.key_file is missing"]),
            ("server: 3\n", ["server", "3", "a section with grpc, http, s3"]),
            ("bus: {retention_hours: 720}\n", ["runs.replay_horizon_days", "30 days", "720 hours"]),
            ("meta: {url: 'mysql://x'}\n", ["meta.url", "mysql://x", "postgresql://…"]),
            ("bus: {url: 'log:x'}\n", ["bus.url", "log:x", "kafka://…"]),
            ("audit: {path: 3}\n", ["audit.path", "3", "in quotes"]),
            (SEED.replace('"prismpassword"', "123456"), ["secret_key", "text or null", "in quotes"]),
            (SEED.replace('"prism"', "123456"), ["access_key", "123456", "characters", "in quotes"]),
            ("auth: closed\n", ["auth.mode", "'closed'", "open"]),
        ],
    )
    def test_mistakes_are_named(self, loaded: Load, text: str, parts: list[str]) -> None:
        message = refusal(lambda: loaded(text))
        assert not [part for part in parts if part not in message], message

    def test_two_free_ports_are_not_the_same_address(self, loaded: Load) -> None:
        assert loaded("server: {grpc: '127.0.0.1:0', http: '127.0.0.1:0', s3: '127.0.0.1:0'}\n").server.s3.port == 0


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("sever: {}\n", ["sever is no setting", "did you mean server?"]),
            ("namespace: []\n", ["namespace is no setting", "did you mean namespaces?"]),
            (
                "limits: {max_transfer_second: 3}\n",
                ["limits.max_transfer_second", "did you mean max_transfer_seconds?"],
            ),
            ("server: {http: {adress: x}}\n", ["server.http.adress", "did you mean address?"]),
            ("zzz: hunter3\n", ["zzz is no setting", "allowed: audit, auth"]),
            ("sources: {}\n", ["sources is no setting"]),
            ("1: 2\n", ["1 is no setting"]),
        ],
    )
    def test_in_a_file(self, loaded: Load, text: str, parts: list[str]) -> None:
        message = refusal(lambda: loaded(text))
        assert not [part for part in parts if part not in message], message
        assert ": hunter3" not in message

    @pytest.mark.parametrize(
        ("variable", "parts"),
        [
            ("PRISM_META__URI", ["meta.uri", "PRISM_META__URI", "did you mean url?"]),
            ("PRISM_METAL__URL", ["metal.url", "did you mean meta?"]),
            ("PRISM_META__URL__X", ["meta.url.x"]),
            ("PRISM__META__URL", ["_meta.url", "did you mean meta?"]),
            ("PRISM_SERVER__TLS", ["server.tls", "a section with cert_file, key_file"]),
            ("PRISM_NAMESPACES__USR_UPLOADS__BUCKET", ["namespaces.usr_uploads", "did you mean user-uploads?"]),
            ("PRISM_NAMESPACES__USER_UPLOADS__BUKET", ["namespaces.user-uploads.buket", "did you mean bucket?"]),
            ("PRISM_NAMESPACES__USER_UPLOADS__NAME", ["namespaces.user_uploads.name is no setting"]),
            ("PRISM_NAMESPACES__USER_UPLOADS", ["namespaces.user_uploads is no setting"]),
            ("PRISM_SOURCES__X", ["sources.x is no setting"]),
        ],
    )
    def test_in_a_variable(self, loaded: Load, variable: str, parts: list[str]) -> None:
        message = refusal(lambda: loaded("", {variable: "hunter2"}))
        assert not [part for part in (*parts, variable) if part not in message], message


class TestYAML:
    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("server: {}\nserver: {}\n", ["line 2", "twice"]),
            ("a: [1, 2\n", ["not valid YAML", "line"]),
            ("a: !!python/object/apply:os.system ['true']\n", ["not valid YAML"]),
            ("- a\n", ["mapping of settings"]),
            ("a: \x07\n", ["characters"]),
            ("? {a: b}\n: c\n", ["plain word"]),
            ("a: " + "[" * 100 + "]" * 100 + "\n", ["deeper than 32"]),
            ("a: &a [*a]\n", ["refers to what contains it"]),
            ("secret: 'hunter2\n", ["not valid YAML"]),
            ("a: *hunter2\n", ["not valid YAML"]),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(self, loaded: Load, text: str, parts: list[str]) -> None:
        message = refusal(lambda: loaded(text))
        assert not [part for part in parts if part not in message], message
        assert "hunter2" not in message

    @pytest.mark.parametrize("merge", ["[%s]", "{<<: [%s]}"])
    def test_an_alias_bomb_is_refused_at_once(self, loaded: Load, merge: str) -> None:
        lines = ["x0: &x0 {a: 1}"]
        for level in range(1, 25):
            lines.append(f"x{level}: &x{level} " + merge % ", ".join([f"*x{level - 1}"] * 9))
        assert "more than 50000 values" in refusal(lambda: loaded("\n".join(lines)))

    def test_aliases_within_reason_are_welcome(self, loaded: Load) -> None:
        text = "limits: {read_grace_seconds: &g 7, expiry_grace_seconds: *g}\n"
        assert loaded(text).limits.expiry_grace_seconds == 7

    def test_merged_keys_may_be_overridden(self, loaded: Load) -> None:
        text = "namespaces:\n- &a {name: aaa, backend: memory, versioning: true}\n- {<<: *a, name: bbb, bucket: bbb}\n"
        assert [(s.name, s.versioning) for s in loaded(text).namespaces] == [("aaa", True), ("bbb", True)]

    @pytest.mark.parametrize("word", ["no", "0600", "1:30", "yes", "2026-01-01", "1_0"])
    def test_words_that_yaml_is_infamous_for_stay_words(self, loaded: Load, word: str) -> None:
        assert repr(word) in refusal(lambda: loaded(f"bus: {{retention_hours: {word}}}\n"))
        secret = named(loaded(SEED.replace('"prismpassword"', word)), "user-uploads").secret_key
        assert secret == Secret(word)

    def test_a_word_for_a_truth_value_is_named(self, loaded: Load) -> None:
        message = refusal(lambda: loaded("audit: {reads: no}\n"))
        assert "audit.reads" in message
        assert "'no'" in message
        assert "true or false" in message

    @pytest.mark.parametrize("value", ["true", "1.5", ".inf", ".nan", "[]", "1e999", "null"])
    def test_numbers_are_numbers(self, loaded: Load, value: str) -> None:
        assert "bus.retention_hours" in refusal(lambda: loaded(f"bus: {{retention_hours: {value}}}\n"))
        if value != "1.5":
            assert "janitor.interval_seconds" in refusal(lambda: loaded(f"janitor: {{interval_seconds: {value}}}\n"))

    def test_the_file_itself(self, tmp_path: Path) -> None:
        (tmp_path / "large").write_text("#" * 1_048_577)
        (tmp_path / "latin").write_bytes(b"a: \xe9\n")
        (tmp_path / "empty").write_text("")
        (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfauth: open\n")
        assert "No such file" in refusal(lambda: load(tmp_path / "absent", {}))
        assert "Is a directory" in refusal(lambda: load(tmp_path, {}))
        assert "larger than 1048576" in refusal(lambda: load(tmp_path / "large", {}))
        assert "not UTF-8 (byte 3)" in refusal(lambda: load(tmp_path / "latin", {}))
        assert load(tmp_path / "empty", {}) == load(None, {})
        assert load(tmp_path / "bom", {}).auth.mode == "open"

    def test_sections_whose_lines_are_all_commented_out(self, loaded: Load) -> None:
        assert loaded("server:\nlimits:\n").limits == load(None, {}).limits


class TestSecrets:
    def test_a_secret_shows_itself_to_nobody(self) -> None:
        secret = Secret("hunter2")
        assert "hunter2" not in f"{secret} {secret!r} {secret!s} {[secret]} {{'a': secret}} {secret!s:>9}"
        for encode in (json.dumps, msgspec.json.encode, msgspec.to_builtins):
            with pytest.raises(TypeError) as caught:
                encode(secret)
            assert "hunter2" not in str(caught.value)
        assert secret.reveal() == "hunter2"
        assert secret == Secret("hunter2") != Secret("other")
        assert secret != "hunter2"
        assert pickle.loads(pickle.dumps(secret)) == secret

    @pytest.mark.parametrize("key", ["secret_key", "s3_secret"])
    def test_a_secret_may_be_named_instead(self, loaded: Load, tmp_path: Path, key: str) -> None:
        def secret(config: Config) -> str | None:
            space = config.namespaces[0]
            found = space.s3_secret if key == "s3_secret" else named(config, space.name).secret_key
            return found.reveal() if found else None

        (tmp_path / "secret").write_text("from a file\n")
        plain = SEED.replace('secret_key: "prismpassword"', "secret_key: x\n      s3_access_key: k\n      s3_secret: y")
        old = {"secret_key": "secret_key: x", "s3_secret": "s3_secret: y"}[key]
        by_variable = plain.replace(old, f"{key}_env: MINE")
        by_file = plain.replace(old, f"{key}_file: {tmp_path / 'secret'}")
        assert secret(loaded(by_variable, {"MINE": "from a variable"})) == "from a variable"
        assert secret(loaded(by_file)) == "from a file"
        assert secret(loaded(by_file, {f"PRISM_NAMESPACES__USER_UPLOADS__{key.upper()}": "direct"})) == "direct"
        again = loaded(plain, {f"PRISM_NAMESPACES__USER_UPLOADS__{key.upper()}_FILE": str(tmp_path / "secret")})
        assert secret(again) == "from a file"
        assert "MINE" in refusal(lambda: loaded(by_variable))
        assert "No such file" in refusal(lambda: loaded(by_file.replace("/secret", "/absent")))
        twice = plain.replace(old, f"{old}\n      {key}_env: MINE")
        assert f"keep one of {key}, {key}_env" in refusal(lambda: loaded(twice, {"MINE": "z"}))

    def test_a_password_in_a_url_is_moved_out_of_it(self, loaded: Load) -> None:
        meta = loaded("", {"PRISM_META__URL": "postgresql://prism:hunter%402@db:5432/prism?ssl=1"}).meta
        assert meta.url == "postgresql://prism@db:5432/prism?ssl=1"
        assert meta.password == Secret("hunter@2")
        assert "keep one" in refusal(lambda: loaded("meta: {url: 'postgresql://a:hunter2@b', password: c}\n"))

    def test_brokers_may_be_many(self, loaded: Load) -> None:
        bus = loaded("bus: {url: 'kafka://u:hunter2@a:1,b:2'}\n").bus
        assert (bus.url, bus.password) == ("kafka://u@a:1,b:2", Secret("hunter2"))

    def test_the_whole_configuration_can_be_printed(self, loaded: Load) -> None:
        config = loaded(SEED, {"PRISM_META__URL": "postgresql://u:hunter2@db/x", "PRISM_TOKENS__KEYS": "hunter2"})
        assert not [word for word in ("prismpassword", "hunter2", "prism-local-") if word in repr(config)]
        table = " ".join(f"{s.at} {s.value} {s.source}" for s in describe(config))
        assert not [word for word in ("prismpassword", "hunter2", "prism-local-") if word in table]

    @pytest.mark.parametrize("url", ["postgresql://u:hunter2#@db/x", "postgresql://db/x?password=hunter2"])
    def test_a_secret_that_could_stay_in_a_url_is_refused(self, loaded: Load, url: str) -> None:
        assert "hunter2" not in refusal(lambda: loaded("", {"PRISM_META__URL": url}))

    @given(before=st.text(max_size=5), after=st.text(max_size=5))
    def test_no_refusal_tells_a_secret(self, before: str, after: str) -> None:
        secret = f"{before}hunter2{after}"
        variables = [
            {"PRISM_NAMESPACES__A__SECRET_KEY": secret, "PRISM_NAMESPACES__A__SECRET_KEYS": secret},
            {"PRISM_OBJECTSTORE_SECRET_KEY": secret, "PRISM_META__URL": f"mysql://u:{secret}@host"},
            {"PRISM_NOTHING__AT_ALL": secret},
        ]
        for environment in variables:
            with pytest.raises(PrismError) as caught:
                load(None, environment)
            assert "hunter2" not in str(caught.value)


class TestDescribe:
    def test_every_value_has_its_source(self, loaded: Load, tmp_path: Path) -> None:
        config = loaded(SEED, {"PRISM_OBJECTSTORE_ENDPOINT": "minio:1"}, server__http__address="127.0.0.1:0")
        lines = {setting.at: (setting.value, setting.source) for setting in describe(config)}
        file = f"file {tmp_path / 'prism.yaml'}"
        assert lines["data_dir"] == (str(tmp_path / "data"), "command line")
        assert lines["namespaces.user-uploads.bucket"] == ("prism-objects", file)
        assert lines["namespaces.user-uploads.secret_key"] == ("(hidden)", file)
        assert lines["namespaces.user-uploads.endpoint"] == ("http://minio:1", "variable PRISM_OBJECTSTORE_ENDPOINT")
        assert lines["namespaces.build-artifacts.access_key"] == ("null", "default")
        assert lines["server.http.address"] == ("127.0.0.1:0", "command line")
        assert lines["limits.max_transfer_seconds"] == ("3600", "default")
        assert lines["auth.mode"] == ("null", "default")


WORDS = st.sampled_from(
    ["server", "http", "namespaces", "name", "config", "meta", "url", "secret_key", "auth", "a", "0", "no", "<<", "~"]
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=20,
)


class TestHostileInput:
    @given(tree=st.dictionaries(WORDS, TREES, max_size=5))
    def test_any_tree_loads_or_is_refused_by_name(self, tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
        path = tmp_path_factory.getbasetemp() / "tree.yaml"
        path.write_text(json.dumps(tree))
        self.loads_or_is_refused(path, {})

    @given(text=st.text(st.sampled_from("ab: -[]{}&*!|>'\"%@`#,?\n\t~<01.x"), max_size=60))
    def test_any_text_loads_or_is_refused_by_name(self, tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
        path = tmp_path_factory.getbasetemp() / "text.yaml"
        path.write_text(text)
        self.loads_or_is_refused(path, {})

    @given(
        environment=st.dictionaries(
            st.lists(WORDS, min_size=1, max_size=4).map(lambda words: f"PRISM_{'__'.join(words).upper()}"),
            st.text(max_size=30),
            max_size=3,
        )
    )
    def test_any_variables_load_or_are_refused_by_name(self, environment: dict[str, str]) -> None:
        self.loads_or_is_refused(None, environment)

    @staticmethod
    def loads_or_is_refused(path: Path | None, environment: Mapping[str, str]) -> None:
        with contextlib.suppress(PrismError):
            assert load(path, environment).namespaces
