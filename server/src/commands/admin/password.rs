//! Passwords and keys of commands: from standard input, or made up and told once. Never from the command line, where
//! other users of the machine can read them.

use crate::startup::bootstrap::random_password;
use domain::secret::Secret;
use std::io::BufRead;

/// The password, and its text if it was made up.
///
/// # Errors
/// Standard input cannot be read.
pub async fn choose(from_stdin: bool) -> std::io::Result<(Secret, Option<String>)> {
    if from_stdin {
        return Ok((self::from_stdin().await?, None));
    }
    let password = random_password();
    Ok((Secret::new(password.clone()), Some(password)))
}

/// The first line on standard input, without its end.
///
/// # Errors
/// Standard input cannot be read.
pub async fn from_stdin() -> std::io::Result<Secret> {
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| Secret::new(line))
    });
    let line = line.await??;
    Ok(Secret::new(line.reveal().trim_end_matches(['\r', '\n'])))
}

/// Adds the made-up password to the message.
pub fn tell(mut text: String, made_up: Option<&str>) -> String {
    if let Some(password) = made_up {
        text.push_str(&format!(" Password: {password}"));
    }
    text
}
