//! The agent with all that belongs to it: embedded broker, subscriber, registry, API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use beacon::Credentials;
use beacon::broker::{Broker, BrokerConfig, Role, User, raise_open_files};
use beacon::net::{HostPort, new_id};
use beacon::subscriber::{SubscriberConfig, subscribe};
use host_agent::hypervisor::Machines;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Agent, AgentConfig, Sources, machines, snapshot};
use crate::api::http::{Api, router};
use crate::api::socket::ApiListener;
use crate::config::{Config, GuestsFile};

/// How long the agent's tasks have to end after it is told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Beacons that may wait for the registry; more wait in the broker, which conflates them.
const BEACONS_WAITING: usize = 1024;

/// Runs the agent until the token is cancelled.
///
/// # Errors
///
/// The API's socket or the broker's address cannot be had.
pub(crate) async fn serve(
    config: Config,
    socket: PathBuf,
    token: CancellationToken,
) -> anyhow::Result<()> {
    let listener = ApiListener::bind(socket.clone())?;
    let tasks = TaskTracker::new();
    let embedded = start_broker(&config, &token, &tasks).await?;
    let (broker_addresses, own, lost) = match embedded {
        Some(embedded) => (embedded.addresses, embedded.own, Some(embedded.lost)),
        None => (Vec::new(), None, None),
    };

    let (heard, presence) = mpsc::channel(BEACONS_WAITING);
    tasks.spawn(subscribe(
        subscriber_config(&config, &broker_addresses, own)?,
        heard,
        token.clone(),
    ));
    let machines = Machines::new(config.hypervisor.driver(None, &broker_addresses)?);
    let unknown = (!config.hypervisor.is_none()).then(|| Arc::new(Notify::new()));
    let settings = AgentConfig {
        machines: if unknown.is_some() {
            first_look(&machines).await
        } else {
            Vec::new()
        },
        unknown: unknown.clone(),
        grace: config.grace,
        accept_unknown: config.accept_unknown,
        snapshot: match &config.guests_file {
            GuestsFile::Beside => Some(snapshot::beside(&socket)),
            GuestsFile::At(path) => Some(path.clone()),
            GuestsFile::None => None,
        },
    };
    let (agent, handle) = Agent::new(settings, Sources { presence, lost });
    tasks.spawn(agent.run(token.clone()));
    if let Some(unknown) = unknown {
        let watchdog = config.hypervisor.watchdog;
        let watch = machines::watch(
            machines.clone(),
            handle.clone(),
            unknown,
            watchdog,
            token.clone(),
        );
        tasks.spawn(watch);
    }

    tracing::info!(
        socket = %socket.display(), ?broker_addresses, grace_s = config.grace.as_secs_f64(),
        "host-agent is running"
    );
    let api = Api {
        agent: handle,
        machines,
        broker_addresses: broker_addresses.into(),
        token: token.clone(),
        tasks: tasks.clone(),
    };
    let stopped = token.clone();
    let api = axum::serve(listener, router(api)).with_graceful_shutdown(stopped.cancelled_owned());
    let mut api = tasks.spawn(api.into_future());

    token.cancelled().await;
    tracing::info!("host-agent is stopping");
    tasks.close();
    if tokio::time::timeout(STOP_WITHIN, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            tasks = tasks.len(),
            "stopped without waiting for what still runs"
        );
        api.abort();
    }
    // The listener, and with it the socket's file, goes with this task.
    match (&mut api).await {
        Ok(served) => served.context("the API's socket failed"),
        Err(_aborted) => Ok(()),
    }
}

/// Says what the driver lacks, and returns the machines that there are at the start.
async fn first_look(machines: &Machines) -> Vec<host_agent::hypervisor::Machine> {
    let driver = machines.driver();
    let looked = tokio::time::timeout(LOOK_WITHIN, async {
        for finding in driver.check().await? {
            if finding.ok {
                tracing::info!(driver = driver.name(), "{}", finding.what);
            } else {
                tracing::warn!(
                    driver = driver.name(),
                    remedy = finding.remedy,
                    "{}",
                    finding.what
                );
            }
        }
        machines.list().await
    });
    match looked.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(driver = driver.name(), %error, "the hypervisor does not tell its machines");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(
                driver = driver.name(),
                "the hypervisor takes too long to answer"
            );
            Vec::new()
        }
    }
}

/// How long the agent waits for the hypervisor before it goes on without.
const LOOK_WITHIN: Duration = Duration::from_secs(20);

struct Embedded {
    addresses: Vec<SocketAddr>,
    /// The agent's own account, where the broker wants one.
    own: Option<Credentials>,
    lost: mpsc::Receiver<beacon::broker::PublisherLost>,
}

async fn start_broker(
    config: &Config,
    token: &CancellationToken,
    tasks: &TaskTracker,
) -> anyhow::Result<Option<Embedded>> {
    let Some(address) = config.embedded else {
        return Ok(None);
    };
    let mut listen = vec![address];
    if !address.ip().is_loopback() && !address.ip().is_unspecified() {
        // The agent itself needs a way in: without configured users only loopback is an agent.
        listen.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
    }
    let mut users = config.users.clone();
    // Nobody is told of it, so nobody has to configure one.
    let own = (!users.is_empty()).then(|| Credentials {
        login: format!("agent-{}", new_id()),
        passcode: format!("{}{}", new_id(), new_id()),
    });
    users.extend(own.iter().map(|own| User {
        name: own.login.clone(),
        passcode: own.passcode.clone(),
        role: Role::Agent,
    }));
    let broker_config = BrokerConfig {
        listen,
        users,
        presence_destination: config.destination.clone(),
        ..BrokerConfig::default()
    };
    let most = broker_config.limits.connections as u64;
    if let Some(granted) = raise_open_files().filter(|&granted| granted < most) {
        tracing::warn!(
            granted,
            "few open files are allowed, and each guest's connection to the broker needs one; raise the hard \
             limit (`ulimit -Hn`, LimitNOFILE=) for more guests"
        );
    }
    let mut broker = Broker::bind(broker_config).await.with_context(|| {
        "cannot start the embedded broker; set EmbeddedBroker.listen_addr and listen_port, or enabled = no \
         where another broker runs"
    })?;
    let addresses = broker.local_addrs()?;
    // Taken once only, right here.
    let lost = broker
        .publisher_lost()
        .context("the embedded broker has no news")?;
    tasks.spawn(broker.run(token.clone()));
    Ok(Some(Embedded {
        addresses,
        own,
        lost,
    }))
}

/// Returns how the agent hears: from the embedded broker, or from the one that the settings name.
fn subscriber_config(
    config: &Config,
    embedded: &[SocketAddr],
    own: Option<Credentials>,
) -> anyhow::Result<SubscriberConfig> {
    let mut credentials = own;
    let broker = match (config.foreign_broker(), embedded) {
        (Some(broker), _) => {
            credentials.clone_from(&config.credentials);
            HostPort::new(broker.host, broker.port)
        }
        // Where there are two listeners, the last is the agent's own on loopback.
        (None, [.., own]) => {
            let address = if own.ip().is_unspecified() {
                loopback_like(own.ip())
            } else {
                own.ip()
            };
            HostPort::new(address.to_string(), own.port())
        }
        (None, []) => bail!("there is no broker: set Broker.host, or EmbeddedBroker.enabled = yes"),
    };
    let mut subscriber = SubscriberConfig::new(broker);
    subscriber.destination.clone_from(&config.destination);
    subscriber.link.vhost.clone_from(&config.vhost);
    subscriber.link.credentials = credentials;
    Ok(subscriber)
}

/// Returns the loopback address of the same family.
fn loopback_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}
