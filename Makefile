# The two commands of this project are `make demo` and `make test`.

CARGO ?= cargo
DEMO_ARGS ?=
BENCH_ARGS ?=
PRESENCE_ARGS ?=
BENCH_VM_ARGS ?=

.PHONY: help demo test test-full test-brokers test-vm test-disk demo-vm guest-image guest-disk bench-vm deps-vm bench bench-presence fuzz prove report build install deps format lint docs deny unit clean

help:
	@echo "make demo    build, then show the main job: push, run, pull and check in three guests"
	@echo "make demo-vm the same on two virtual machines, booted for it by QEMU without KVM, as an ordinary user"
	@echo "make test    install what is missing, then format, lints, docs, supply chain, every test, conformance, fuzzing"
	@echo "make test-full  also what takes long or needs many open files: 10,000 connections and the like"
	@echo "make test-brokers  presence over real RabbitMQ and ActiveMQ, which each test starts; two minutes"
	@echo "make test-vm       real virtual machines under QEMU, without KVM; minutes, most of them for the guest's server"
	@echo "make guest-image   a static server, and a guest that needs nothing else, in target/guest/guest"
	@echo "make guest-disk    the same with a Debian around it, as disk.qcow2; needs root for debootstrap"
	@echo "make test-disk     such a disk, booted; a minute for the disk beside what test-vm takes"
	@echo "make bench-vm      exec and copies beside QEMU's guest agent in one guest, starts, and twenty guests on one agent"
	@echo "make bench   compare with the reference server and a raw floor on this machine, and presence over several brokers"
	@echo "make bench-presence  the latter alone; PRESENCE_ARGS='--embedded-only --only rate' for a part"
	@echo "make fuzz    fuzz every parser for FUZZ_SECONDS (20) seconds each; minutes to build"
	@echo "make prove   put mistakes into the programs, one at a time, and record what of the suite catches each"
	@echo "make report  compare servers and clients with the reference's, all of it, and write docs/conformance-report.*"
	@echo "make build   release binaries in target/release"
	@echo "make install programs, man pages and completions under PREFIX (/usr/local), behind DESTDIR; with LINKS=1"
	@echo "             chirp, chirp_get, chirp_put, chirp_status and chirp_stream_files are links to chirp-client"

demo: ; $(CARGO) build --release --locked -p chirp-server -p chirp-client -p host-agent
	target/release/host-agent demo $(DEMO_ARGS)

# The guest's server and its kernel first, which takes minutes once.
demo-vm: guest-image
	$(CARGO) build --release --locked -p host-agent
	target/release/host-agent demo --machines target/guest/guest $(DEMO_ARGS)

test: deps format lint docs deny unit fuzz

# Also what is left out for time or for what it asks of the machine: 11,100 open files for ten thousand
# connections.
test-full: test
	$(CARGO) nextest run --workspace --locked --no-fail-fast --run-ignored only -E 'not (binary(vm) | binary(libvirt))'

# Brokers that take long to start; the light ones are in `make test`.
test-brokers: deps
	$(CARGO) build --workspace --bins --locked
	$(CARGO) nextest run -p brokers -p host-agent --locked --no-fail-fast --run-ignored only -E 'not (binary(vm) | binary(libvirt))'

# Installs QEMU and libvirt and builds the guest first. The server of the tests' guests is optimized little and large.
# The same packages as for the brokers: with others cargo would build everything anew.
test-vm: deps-vm
	scripts/guest/image initramfs guest-test
	$(CARGO) build --workspace --bins --locked
	$(CARGO) nextest run -p brokers -p host-agent --locked --no-fail-fast --run-ignored only -E '(binary(vm) - test(/^disk::/)) | binary(libvirt)'

# A guest on a disk with a distribution.
test-disk:
	@scripts/install-missing disk
	scripts/guest/image disk guest-test
	$(CARGO) build --workspace --bins --locked
	$(CARGO) nextest run -p brokers -p host-agent --locked --run-ignored only -E 'binary(vm) & test(/^disk::/)'

guest-image: deps-vm
	scripts/guest/image initramfs guest

guest-disk:
	@scripts/install-missing disk
	scripts/guest/image disk guest

deps-vm: ; @scripts/install-missing vm

# On a file system in memory where there is one, so that the servers are compared and not the disk.
BENCH_DIR ?= $(shell test -w /dev/shm && echo /dev/shm || echo /tmp)

bench: deps bench-presence
	$(CARGO) build --release --locked -p chirp-server -p chirp-client -p conformance
	TMPDIR=$(BENCH_DIR) target/release/chirp-bench $(BENCH_ARGS)

bench-presence: deps
	$(CARGO) build --release --locked -p chirp-server -p host-agent -p brokers
	target/release/presence-bench $(PRESENCE_ARGS)

# Real machines without KVM, by whoever calls it; the server on this host is optimized as the guest's is.
bench-vm: deps-vm
	scripts/guest/image bench guest
	$(CARGO) build --release --locked -p chirp-server -p host-agent --bins
	$(CARGO) build --release --locked -p host-agent --example vm-bench
	target/release/examples/vm-bench $(BENCH_VM_ARGS)

# Each parser for FUZZ_SECONDS seconds, coverage-guided.
FUZZ_SECONDS ?= 20

fuzz: deps
	scripts/fuzz $(FUZZ_SECONDS)

# An hour: each mistake is built and judged alone.
prove: deps
	$(CARGO) run --locked -p conformance -- prove $(BUGS)
	$(CARGO) run --locked -p conformance -- render

report: deps
	$(CARGO) build --locked --bins -p chirp-server -p chirp-client
	$(CARGO) run --locked -p conformance -- report

build: ; $(CARGO) build --release --locked --workspace --bins

PREFIX ?= /usr/local
DESTDIR ?=
LINKS ?=

install: ; $(CARGO) build --release --locked -p chirp-server -p chirp-client -p host-agent
	PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' LINKS='$(LINKS)' scripts/install target/release

deps: ; @scripts/install-missing

format: ; $(CARGO) fmt --all --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml

lint: ; $(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs: ; RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

# Advisories need a database from the network; `cargo deny check` has them where that can be reached.
deny: ; $(CARGO) deny --locked check bans licenses sources

unit:
	$(CARGO) build --workspace --bins --locked
	$(CARGO) nextest run --workspace --locked --no-fail-fast
	$(CARGO) test --workspace --doc --locked

clean: ; $(CARGO) clean
