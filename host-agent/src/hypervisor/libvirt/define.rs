//! The XML of a machine that is to be made.

use std::io;
use std::path::Path;

use quick_xml::Writer;
use quick_xml::events::BytesText;

use super::super::Blueprint;

/// What the XML of a machine says beside its blueprint.
#[derive(Debug)]
pub(super) struct Definition<'a> {
    pub(super) name: &'a str,
    /// `kvm`, `qemu` or another type of libvirt's.
    pub(super) kind: &'a str,
    pub(super) blueprint: &'a Blueprint,
    /// The machine's own disk, as qcow2.
    pub(super) disk: Option<&'a Path>,
    /// The bridge of its network card; user-mode networking where there is none.
    pub(super) bridge: Option<&'a str>,
    /// The file that takes what it says on its serial port.
    pub(super) log: Option<&'a Path>,
}

impl Definition<'_> {
    /// Returns the definition as `virsh define` takes it.
    pub(super) fn xml(&self) -> io::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new());
        writer
            .create_element("domain")
            .with_attribute(("type", self.kind))
            .write_inner_content(|writer| self.content(writer))?;
        Ok(writer.into_inner())
    }

    fn content(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        let memory = self.blueprint.memory_mib.unwrap_or(1024).to_string();
        let cpus = self.blueprint.cpus.unwrap_or(1).to_string();
        text(writer, "name", self.name)?;
        writer
            .create_element("memory")
            .with_attribute(("unit", "MiB"))
            .write_text_content(BytesText::new(&memory))?;
        text(writer, "vcpu", &cpus)?;
        writer.create_element("os").write_inner_content(|writer| {
            text(writer, "type", "hvm")?;
            let paths = [
                ("kernel", &self.blueprint.kernel),
                ("initrd", &self.blueprint.initrd),
            ];
            for (name, path) in paths {
                if let Some(path) = path {
                    text(writer, name, &path.to_string_lossy())?;
                }
            }
            match &self.blueprint.append {
                Some(append) => text(writer, "cmdline", append),
                None => Ok(()),
            }
        })?;
        // Without ACPI the power button is not heard.
        writer
            .create_element("features")
            .write_inner_content(|writer| writer.create_element("acpi").write_empty().map(drop))?;
        writer
            .create_element("devices")
            .write_inner_content(|writer| self.devices(writer))?;
        Ok(())
    }

    fn devices(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        if let Some(disk) = self.disk {
            writer
                .create_element("disk")
                .with_attributes([("type", "file"), ("device", "disk")])
                .write_inner_content(|writer| {
                    empty(writer, "driver", &[("name", "qemu"), ("type", "qcow2")])?;
                    empty(writer, "source", &[("file", &disk.to_string_lossy())])?;
                    empty(writer, "target", &[("dev", "vda"), ("bus", "virtio")])
                })?;
        }
        let kind = if self.bridge.is_some() {
            "bridge"
        } else {
            "user"
        };
        writer
            .create_element("interface")
            .with_attribute(("type", kind))
            .write_inner_content(|writer| {
                if let Some(bridge) = self.bridge {
                    empty(writer, "source", &[("bridge", bridge)])?;
                }
                if let Some(mac) = self.blueprint.mac {
                    let mac = mac.to_string().to_lowercase();
                    empty(writer, "mac", &[("address", &mac)])?;
                }
                empty(writer, "model", &[("type", "virtio")])
            })?;
        if let Some(log) = self.log {
            writer
                .create_element("serial")
                .with_attribute(("type", "file"))
                .write_inner_content(|writer| {
                    empty(writer, "source", &[("path", &log.to_string_lossy())])
                })?;
        }
        Ok(())
    }
}

fn text(writer: &mut Writer<Vec<u8>>, name: &str, value: &str) -> io::Result<()> {
    writer
        .create_element(name)
        .write_text_content(BytesText::new(value))
        .map(drop)
}

fn empty(writer: &mut Writer<Vec<u8>>, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
    writer
        .create_element(name)
        .with_attributes(attributes.iter().copied())
        .write_empty()
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        let xml = Definition {
            name: "a<b>&\"c\"",
            kind: "qemu",
            blueprint: &Blueprint::default(),
            disk: Some(Path::new("/d'\".qcow2")),
            bridge: None,
            log: None,
        }
        .xml()
        .unwrap();
        let xml = String::from_utf8(xml).unwrap();
        assert!(xml.contains("<name>a&lt;b&gt;&amp;"), "{xml}");
        assert!(xml.contains("file=\"/d"), "{xml}");
        assert!(!xml.contains("'\".qcow2"), "{xml}");
    }
}
