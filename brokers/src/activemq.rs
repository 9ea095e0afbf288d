//! ActiveMQ with a STOMP connector, in memory.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::broker::{Processes, agent_account, guest_account, log};
use crate::process::Process;

/// Debian's; `activemq` in the path starts instances of the system.
const HOME: &str = "/usr/share/activemq";

pub(crate) fn start(directory: &Path, address: SocketAddr) -> Result<Processes> {
    ensure!(
        Path::new(HOME).is_dir(),
        "ActiveMQ is not in {HOME}; on Debian: apt-get install activemq"
    );
    let settings = directory.join("activemq.xml");
    fs::write(&settings, configuration(directory, address))?;
    let mut command = Command::new("java");
    command
        .current_dir(directory)
        .args(["-Xms32m", "-Xmx512m", "-XX:TieredStopAtLevel=1"])
        .arg(format!("-Dactivemq.home={HOME}"));
    for name in ["base", "conf", "data"] {
        command.arg(format!("-Dactivemq.{name}={}", directory.display()));
    }
    command
        .args(["-jar", &format!("{HOME}/bin/activemq.jar"), "start"])
        .arg(format!("xbean:file:{}", settings.display()))
        .stdout(log(directory)?)
        .stderr(log(directory)?);
    Ok(Processes {
        main: Process::start(&mut command)?,
        helper: None,
    })
}

fn configuration(directory: &Path, address: SocketAddr) -> String {
    let (agent, guest) = (agent_account(), guest_account());
    format!(
        r#"<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="presence" useJmx="false" persistent="false"
    dataDirectory="{}">
    <plugins>
      <simpleAuthenticationPlugin anonymousAccessAllowed="true">
        <users>
          <authenticationUser username="{}" password="{}" groups="agents"/>
          <authenticationUser username="{}" password="{}" groups="guests"/>
        </users>
      </simpleAuthenticationPlugin>
    </plugins>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp+nio://{address}?maximumConnections=12000&amp;backlog=4096"/>
    </transportConnectors>
  </broker>
</beans>
"#,
        directory.display(),
        agent.login,
        agent.passcode,
        guest.login,
        guest.passcode,
    )
}
