//! RabbitMQ with its STOMP plugin, and the daemon that its runtime needs, both for this broker alone.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use crate::broker::{Processes, agent_account, guest_account, log};
use crate::process::{Process, free_address};

/// Debian's; `rabbitmq-server` in the path changes user and directory.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

pub(crate) fn start(directory: &Path, address: SocketAddr) -> Result<Processes> {
    let file = |name: &str| directory.join(name);
    fs::write(
        file("rabbitmq.conf"),
        format!(
            "listeners.tcp = none\n\
             stomp.listeners.tcp.1 = {address}\n\
             stomp.tcp_listen_options.backlog = 4096\n\
             load_definitions = {}\n\
             log.console = true\nlog.console.level = warning\nlog.file = false\n",
            file("definitions.json").display()
        ),
    )?;
    fs::write(file("definitions.json"), definitions().to_string())?;
    fs::write(file("enabled_plugins"), "[rabbitmq_stomp].\n")?;

    let (names, distribution) = (free_address()?.port(), free_address()?.port());
    let mut epmd = Command::new("epmd");
    epmd.args(["-address", "127.0.0.1", "-port", &names.to_string()])
        .stdout(log(directory)?)
        .stderr(log(directory)?);
    let epmd = Process::start(&mut epmd)?;

    let mut server = Command::new(SERVER);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["RABBITMQ_", "ERL_", "NOTIFY_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            server.env_remove(name);
        }
    }
    server
        .current_dir(directory)
        // The cookie between nodes is kept there.
        .env("HOME", directory)
        .env("ERL_EPMD_PORT", names.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        // What it has on disk belongs to this name, so it is the same at every start.
        .env(
            "RABBITMQ_NODENAME",
            format!("presence{}@localhost", address.port()),
        )
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins"))
        .env("RABBITMQ_MNESIA_DIR", file("mnesia"))
        .env("RABBITMQ_LOG_BASE", file("logs"))
        // Makes the script become the broker instead of waiting for it, so that its process is ours.
        .env("RABBITMQ_ALLOW_INPUT", "1")
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-noinput -kernel inet_dist_use_interface {127,0,0,1} +sbwt none",
        )
        .stdout(log(directory)?)
        .stderr(log(directory)?);
    let main = Process::start(&mut server).context("on Debian: apt-get install rabbitmq-server")?;
    Ok(Processes {
        main,
        helper: Some(epmd),
    })
}

/// Returns the accounts, with the least rights that work for presence, and RabbitMQ's own `guest`.
fn definitions() -> serde_json::Value {
    let user = |name: &str, password: &str| json!({"name": name, "password": password, "tags": ""});
    let rights = |name: &str, configure: &str, write: &str, read: &str| json!({"user": name, "vhost": "/", "configure": configure, "write": write, "read": read});
    let topic = |name: &str, write: &str, read: &str| json!({"user": name, "vhost": "/", "exchange": "amq.topic", "write": write, "read": read});
    let (agent, guest) = (agent_account(), guest_account());
    let subscriptions = "^(stomp-subscription-.*|amq\\.topic)$";
    let presence = "^connections$";
    json!({
        "users": [
            user("guest", "guest"),
            user(&agent.login, &agent.passcode),
            user(&guest.login, &guest.passcode),
        ],
        "vhosts": [{"name": "/"}],
        "permissions": [
            rights("guest", ".*", ".*", ".*"),
            rights(&agent.login, "^stomp-subscription-", subscriptions, subscriptions),
            rights(&guest.login, "^$", "^amq\\.topic$", "^$"),
        ],
        "topic_permissions": [
            topic(&agent.login, presence, presence),
            topic(&guest.login, presence, "^$"),
        ],
    })
}
