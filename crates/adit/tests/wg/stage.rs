//! Where a `wg` and ours play the same scene: a mount and a network namespace of their own, with
//! sockets that answer as told and write down what they are asked.

use std::cell::Cell;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use adit_tests::lab::skipped;
use adit_tests::tools::Tools;

pub const OURS: &str = env!("CARGO_BIN_EXE_adit");
const SOCKETS: &str = "/var/run/wireguard";

/// What makes a shell into a stage: no other interfaces, no resolver that answers.
const SETUP: &str = r#"
    mount -t tmpfs none /run && mkdir -p /run/wireguard /run/files &&
    mount -t tmpfs none /etc/wireguard &&
    echo '192.0.2.7 only4.test
2001:db8::7 only6.test
127.0.0.1 localhost' > /run/hosts && mount --bind /run/hosts /etc/hosts &&
    echo 'nameserver 127.0.0.1
options timeout:1 attempts:1' > /run/resolv.conf && mount --bind /run/resolv.conf /etc/resolv.conf &&
    cd /run/files && exec "$0" "$@"
"#;

/// Lets the test `name` play beside every `wg` that there is, each time on a stage of its own, if
/// there can be one here.
pub fn on_stage(name: &str, play: fn(&Stage)) {
    if let Some(folder) = env::var_os("ADIT_STAGE") {
        let stage = Stage::new(Tools::of(folder.into()).unwrap());
        play(&stage);
        match stage.alike.get() {
            0 => return,
            number => return println!("{name}: {number} command lines {:?}", stage.tools.version),
        }
    }
    let may = Command::new("unshare").args(["--mount", "--net", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        return skipped("it needs the right to make namespaces");
    }
    for tools in Tools::all() {
        let status = Command::new("unshare")
            .args(["--mount", "--net", "sh", "-c", SETUP])
            .arg(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("ADIT_STAGE", &tools.folder)
            .status();
        assert!(status.unwrap().success(), "see above: {tools:?}");
    }
}

/// One interface's answers; `{now-5}` stands for a time.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub get: String,
    pub set: String,
}

/// One command line.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    words: Vec<OsString>,
    user: u32,
    environment: Vec<(String, String)>,
    stdin: Vec<u8>,
    /// Of `wgt0`; other interfaces have nothing to tell.
    answers: Answers,
}

/// The arguments, with spaces between them; `''` is an empty one, `~` a space inside of one, and `ÿ` a
/// byte that is no text.
pub fn scene(line: &str) -> Scene {
    let words = line.split_whitespace().map(|word| match word {
        "''" => OsString::new(),
        word => {
            let bytes = word.chars().flat_map(|character| match character {
                '~' => b" ".to_vec(),
                'ÿ' => b"\xff".to_vec(),
                other => other.to_string().into_bytes(),
            });
            OsString::from_vec(bytes.collect())
        }
    });
    let answers = Answers { get: "errno=0\n\n".into(), set: "errno=0\n\n".into() };
    Scene { words: words.collect(), answers, ..Scene::default() }
}

impl Scene {
    pub fn with(mut self, variable: &str, value: &str) -> Self {
        self.environment.push((variable.into(), value.into()));
        self
    }

    pub fn reading(mut self, stdin: impl AsRef<[u8]>) -> Self {
        self.stdin = stdin.as_ref().to_vec();
        self
    }

    pub fn by(mut self, user: u32) -> Self {
        self.user = user;
        self
    }

    pub fn told(mut self, get: &str) -> Self {
        self.answers.get = get.into();
        self
    }

    pub fn answered(mut self, set: &str) -> Self {
        self.answers.set = set.into();
        self
    }
}

/// All that can be seen of a program from outside.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub requests: String,
}

pub struct Stage {
    /// Theirs.
    pub tools: Tools,
    answers: Arc<Mutex<Answers>>,
    requests: Arc<Mutex<Vec<u8>>>,
    /// How many scenes were.
    alike: Cell<usize>,
}

impl Stage {
    fn new(tools: Tools) -> Self {
        let stage = Self {
            tools,
            answers: Arc::default(),
            requests: Arc::default(),
            alike: Cell::default(),
        };
        stage.serve("wgt0", Arc::clone(&stage.answers));
        stage
    }

    /// Opens one more interface.
    pub fn serve(&self, name: &str, answers: Arc<Mutex<Answers>>) {
        let listener = UnixListener::bind(socket(name)).unwrap();
        let requests = Arc::clone(&self.requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                attend(stream.unwrap(), &answers, &requests);
            }
        });
    }

    /// Lets `wgt0` answer as in a scene.
    pub fn tell(&self, scene: &Scene) {
        *self.answers.lock().unwrap() = scene.answers.clone();
        self.requests.lock().unwrap().clear();
    }

    /// What theirs does.
    pub fn theirs(&self, scene: &Scene) -> Seen {
        self.see(&self.tools.wg(), scene)
    }

    /// What ours does when it is called `wg`.
    pub fn ours(&self, scene: &Scene) -> Seen {
        self.see(OURS.as_ref(), scene)
    }

    fn see(&self, program: &Path, scene: &Scene) -> Seen {
        self.tell(scene);
        let mut command = Command::new(program);
        command.arg0("wg").args(&scene.words).env_clear().uid(scene.user).stdin(Stdio::piped());
        command.envs(scene.environment.iter().cloned());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is there");
        // A program that does not care for its input may have gone before it was written.
        let _ = child.stdin.take().unwrap().write_all(&scene.stdin);
        let output = child.wait_with_output().unwrap();
        Seen {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            requests: text(&self.requests.lock().unwrap()),
        }
    }

    /// Lets both play all scenes, and demands that nobody can tell them apart.
    pub fn alike(&self, scenes: &[Scene]) {
        let mut different = String::new();
        for scene in scenes {
            // The clock may strike between the two, but not thrice.
            if (0..3).any(|_| self.theirs(scene) == self.ours(scene)) {
                self.alike.set(self.alike.get() + 1);
                continue;
            }
            let (theirs, ours) = (self.theirs(scene), self.ours(scene));
            let _ = writeln!(different, "{scene:?}\n  {theirs:?}\n  {ours:?}");
        }
        assert!(different.is_empty(), "theirs and ours differ:\n{different}");
    }

    /// Writes a file into the working directory of the programs.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(name, content).unwrap();
    }
}

/// Text as it is, and other bytes so that they can be told apart.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec());
    text.unwrap_or_else(|_| bytes.escape_ascii().to_string())
}

pub fn socket(name: &str) -> PathBuf {
    Path::new(SOCKETS).join(format!("{name}.sock"))
}

/// Reads requests up to their blank lines and answers them, until the client goes.
fn attend(mut stream: UnixStream, answers: &Mutex<Answers>, requests: &Mutex<Vec<u8>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..length]);
        if request.ends_with(b"\n\n") {
            let answers = answers.lock().unwrap().clone();
            let answer = if request.starts_with(b"get=1\n") { answers.get } else { answers.set };
            requests.lock().unwrap().append(&mut request);
            // A client that has gone needs no answer.
            let _ = stream.write_all(with_times(&answer).as_bytes());
            return;
        }
    }
    requests.lock().unwrap().append(&mut request);
}

/// Puts the time in the place of `{now}`, and earlier and later ones for `{now-5}` and `{now+5}`.
fn with_times(text: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut parts = text.split("{now");
    let mut result = String::from(parts.next().unwrap());
    for part in parts {
        let (difference, rest) = part.split_once('}').unwrap();
        let _ = write!(result, "{}{rest}", now + difference.parse::<i64>().unwrap_or(0));
    }
    result
}

/// A socket that nobody listens at.
pub fn leave_behind(name: &str) {
    let _ = fs::remove_file(socket(name));
    drop(UnixListener::bind(socket(name)).unwrap());
}

/// A file by the name of a socket.
pub fn pretend(name: &str) {
    drop(File::create(socket(name)).unwrap());
}
