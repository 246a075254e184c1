//! The broker starts, can be treated badly, and leaves nothing behind.

use std::net::TcpStream;

use test_servers::Kafka;

#[tokio::test]
async fn a_broker_lives_through_a_kill_and_is_gone_at_the_end() {
    let kafka = Kafka::start().await;
    let address = kafka.bootstrap();
    kafka.kill();
    assert!(TcpStream::connect(&address).is_err());
    kafka.restart().await;
    kafka.freeze();
    kafka.thaw();
    kafka.stop().await;
    assert!(TcpStream::connect(&address).is_err());
    kafka.restart().await;
    drop(kafka);
    assert!(TcpStream::connect(&address).is_err());
}
