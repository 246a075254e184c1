# The Kafka broker that tests and measurements start: a folder of jars from Maven Central. `up` needs
# none, and a gateway that runs split is pointed at somebody's brokers.

kafka_recipe=$root/deploy/native/kafka

require_kafka() {
  require_java
  is_known_good_folder "$KAFKA_FOLDER" "$kafka_recipe/SHA256SUMS" && return 0
  with_cache_lock fetch_kafka
}

fetch_kafka() {
  is_good_folder "$KAFKA_FOLDER" "$kafka_recipe/SHA256SUMS" && return 0
  require_maven
  local folder=$scratch/kafka
  mkdir "$folder"
  cp "$kafka_recipe/pom.xml" "$folder"
  # Maven's own repository is scratch too: nothing is left in the user's ~/.m2.
  with_progress "fetching Kafka $KAFKA_VERSION from Maven Central" "$folder/m2" "$KAFKA_MB" \
    mvn --batch-mode --quiet --file "$folder/pom.xml" -Dmaven.repo.local="$folder/m2" \
    dependency:copy-dependencies -DoutputDirectory="$folder/lib" ||
    die "Kafka could not be fetched. Is this machine online?"
  publish_folder "$folder/lib" "$KAFKA_FOLDER" "$kafka_recipe/SHA256SUMS"
  rm -rf "$folder"
}

# The variable by which tests and measurements find it.
kafka_environment() { printf '%s=%s\n' TOLLGATE_KAFKA_DIR "$cache/$KAFKA_FOLDER"; }
