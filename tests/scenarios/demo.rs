//! The first five minutes: no file, no provider key, one command.

use tests::gateway::{Gateway, Launch};
use tests::{Chat, Shape, World};

tests::in_both_shapes!(only_loopback_is_listened_on,);

/// Without a configuration there is a model to call, and a master key that is made once.
#[tokio::test]
async fn the_first_call_needs_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::up(None, folder.path().join("data"));
    let mut gateway = Gateway::start(launch.clone()).await;
    let key = gateway.file("master.key").trim().to_owned();
    assert!(key.starts_with("sk-"));
    assert_eq!(
        gateway.log().matches(&key).count(),
        1,
        "the key is shown once: {}",
        gateway.log()
    );
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = launch.data_dir.join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("master.key"), 0o600);
    assert_eq!(mode("analyst.password"), 0o600);

    // The printed curl line works as printed.
    let line = gateway
        .log()
        .lines()
        .skip_while(|line| !line.contains("curl "))
        .collect::<Vec<_>>()
        .join("\n");
    let command = line.split("\n\n").next().unwrap().trim().to_owned();
    let output = std::process::Command::new("sh")
        .args(["-c", &command])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        answer.contains("chat.completion"),
        "{command}\n{answer}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );

    // What things cost can be looked up while it runs.
    let prices = gateway.run(&["prices", "list"]);
    let prices = String::from_utf8_lossy(&prices.stdout).into_owned();
    assert!(
        prices.contains("tollgate/demo\tglobal\tinput_text 0.000001"),
        "{prices}"
    );

    let http = tests::client::http();
    let chat = Chat::new(&http, &gateway.url(), &key, "tollgate/demo", "Hello?");
    let plain = chat.send().await;
    assert_eq!(plain.status, 200, "{}", plain.text);
    assert_ne!(plain.header("x-litellm-response-cost"), "");
    assert_eq!(
        chat.stream().await.content(),
        plain.content(),
        "the demo is deterministic"
    );

    gateway.stop();
    let gateway = Gateway::start(launch).await;
    assert_eq!(gateway.file("master.key").trim(), key);
    assert_eq!(gateway.log().matches(&key).count(), 1, "and never again");
}

/// Nothing but loopback is listened on unless `--host` says so.
async fn only_loopback_is_listened_on(shape: Shape) {
    let mut world = World::start(shape).await;
    let mut pids: Vec<u32> = world.processes().map(|process| process.pid()).collect();
    match &world.engine {
        Some(engine) => pids.push(engine.pid()),
        None => pids.extend(tests::gateway::children(pids[0], "clickhouse")),
    }
    assert_eq!(pids.len(), if shape == Shape::OneMachine { 2 } else { 6 });
    let mut listening = 0;
    for pid in pids {
        let sockets = sockets(pid);
        for table in ["tcp", "tcp6"] {
            let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
            for line in text.lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                if fields[3] == "0A" && sockets.iter().any(|inode| inode == fields[9]) {
                    listening += 1;
                    assert!(
                        fields[1].starts_with("0100007F:"),
                        "listens on {}",
                        fields[1]
                    );
                }
            }
        }
    }
    assert!(listening >= 2);
}

/// Inodes of a process's sockets.
fn sockets(pid: u32) -> Vec<String> {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|link| {
            Some(
                link.to_str()?
                    .strip_prefix("socket:[")?
                    .trim_end_matches(']')
                    .to_owned(),
            )
        })
        .collect()
}
