//! What comes between two steps of the guard's: moments too short to be met from outside.

use std::time::{Duration, Instant};

use super::state::Looking;
use super::survey::Above;
use super::*;
use crate::vfs::ACL_NAME;

/// A tree with its guard.
struct Tree {
    guard: Arc<Guard>,
    root: Root,
    transient: tempfile::TempDir,
    _exported: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let (exported, transient) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = Root::open(exported.path()).unwrap();
        let guard = open(&root, transient.path());
        Self {
            guard,
            root,
            transient,
            _exported: exported,
        }
    }

    /// Makes a directory with that list.
    fn directory(&self, name: &[u8], list: &[u8]) -> Dir {
        rustix::fs::mkdirat(self.root.dir(), name, 0o700.into()).unwrap();
        let dir = self.root.dir().child(name).unwrap();
        file::write_new(&dir, ACL_NAME, list).unwrap();
        dir
    }

    fn watch(&self) -> Watch {
        self.guard.watch(self.root.dir(), b"").unwrap()
    }

    /// Returns what the next server would find, were this one killed now.
    fn after_a_kill(&self) -> Arc<Guard> {
        open(&self.root, self.transient.path())
    }
}

fn open(root: &Root, transient: &Path) -> Arc<Guard> {
    let (journal, _) = Journal::open(transient, root).unwrap();
    Guard::open(root, transient, Arc::default(), Arc::new(journal)).unwrap()
}

fn in_tree(dir: &Dir) -> Vec<u8> {
    file::open_in(dir).and_then(file::read_text).unwrap()
}

fn replace(dir: &Dir, list: &[u8]) -> Result<(), Errno> {
    dir.unlink_if_there(ACL_NAME)?;
    file::write_new(dir, ACL_NAME, list).map(drop)
}

#[test]
fn a_change_that_is_under_way_when_a_subtree_begins_is_on_record() {
    let tree = Tree::new();
    let dir = tree.directory(b"d", b"unix:* r\n");
    let watch = std::thread::scope(|scope| {
        let (guard, root) = (&tree.guard, &tree.root);
        let mut watching = None;
        let written = guard.writing(&dir, b"unix:* l\n", || {
            // The subtree gets all the time that it would need to be looked at before the list is written.
            let thread = scope.spawn(|| guard.watch(root.dir(), b"").unwrap());
            let patience = Instant::now() + Duration::from_millis(300);
            let looking = || guard.state().is_looking();
            while Instant::now() < patience && !looking() {
                std::thread::yield_now();
            }
            while looking() && Instant::now() < patience {
                std::thread::yield_now();
            }
            watching = Some(thread);
            replace(&dir, b"unix:* l\n")
        });
        written.unwrap();
        watching.unwrap().join().unwrap()
    });
    let kept = tree.guard.kept(&dir).unwrap().unwrap().acl().unwrap();
    assert_eq!(kept.to_text(), b"unix:* l\n");
    drop(watch);
    assert_eq!(in_tree(&dir), b"unix:* l\n");
}

#[test]
fn what_is_not_on_record_is_a_programs_only_while_programs_may_run_there() {
    let tree = Tree::new();
    let dir = tree.directory(b"d", b"unix:* r\n");
    let watch = tree.watch();
    let (number, list) = (watch.number, List::Absent);
    drop(watch);
    let above = Above {
        list,
        subtrees: vec![number],
    };
    // Found by somebody who began to look while the subtree was kept.
    tree.guard
        .state()
        .forget(&tree.guard.look(&dir).unwrap().id);
    let (found, _) = tree.guard.find(&dir, Some(&above)).unwrap();
    assert_eq!(found.list.acl().unwrap().to_text(), b"unix:* r\n");
}

#[test]
fn a_list_of_a_client_does_not_hide_that_others_are_still_to_be_recorded() {
    let tree = Tree::new();
    let (one, other) = (
        tree.directory(b"1", b"unix:* r\n"),
        tree.directory(b"2", b"unix:* r\n"),
    );
    let watch = tree.watch();
    let mut state = tree.guard.state();
    // It is being moved into the subtree, and not in the file yet.
    let id = tree.guard.look(&one).unwrap().id;
    state.forget(&id);
    let found = Found {
        id,
        list: List::Absent,
        seen: None,
    };
    state.adopt(watch.number, found).unwrap();
    drop(state);
    tree.guard.note(&other, b"unix:* l\n").unwrap();
    let fresh: Vec<Id> = tree
        .guard
        .state()
        .fresh(watch.number)
        .map(|it| it.0)
        .collect();
    assert_eq!(fresh, [id]);
}

#[test]
fn a_record_that_is_shortened_while_a_subtree_ends_does_not_bring_it_back() {
    let tree = Tree::new();
    let dir = tree.directory(b"d", b"unix:* r\n");
    let watch = tree.watch();
    let mut state = tree.guard.state();
    assert!(state.end_use(watch.number));
    assert!(state.may_end(watch.number, true));
    let kept = state.all_kept();
    drop(state);
    tree.guard.record().rewrite(kept).unwrap();
    std::mem::forget(watch);
    // The client's list goes to the tree alone from now on.
    replace(&dir, b"unix:* l\n").unwrap();
    let next = tree.after_a_kill();
    assert!(next.kept(&dir).unwrap().is_none());
    assert_eq!(in_tree(&dir), b"unix:* l\n");
}

#[test]
fn a_record_that_is_shortened_while_a_subtree_is_looked_at_keeps_what_it_needs() {
    let tree = Tree::new();
    let dir = tree.directory(b"d", b"unix:* r\n");
    // Its lists are in the file when the second one looks.
    drop(tree.watch());
    let id = tree.guard.look(tree.root.dir()).unwrap().id;
    let mut state = tree.guard.state();
    let number = state.begin(id);
    assert!(matches!(state.use_top(&id), Some(Err(Looking))));
    drop(state);
    let found = tree.guard.survey(tree.root.dir()).unwrap();
    tree.guard.adopt(number, found).unwrap();
    let kept = tree.guard.state().all_kept();
    tree.guard.record().rewrite(kept).unwrap();
    let (top, path) = (tree.root.dir().clone(), Vec::new());
    let mut state = tree.guard.state();
    let top = Top { id, dir: top, path };
    let mut record = tree.guard.record();
    record.begin(number, &top, state.fresh(number)).unwrap();
    state.activate(number, top);
    drop((state, record));
    // A program's.
    replace(&dir, b"unix:* rwlda\n").unwrap();
    drop(tree.after_a_kill());
    assert_eq!(in_tree(&dir), b"unix:* r\n");
}
