//! Words of the sign-in page.

crate::texts! {
    /// Words of the sign-in page.
    pub struct SignInTexts {
        title: "Sign in" | "Anmelden",
        heading: "Welcome back" | "Willkommen zurück",
        lead: "Sign in with your work account." | "Melden Sie sich mit Ihrem Dienstkonto an.",
        email: "E-mail" | "E-Mail",
        password: "Password" | "Passwort",
        submit: "Sign in" | "Anmelden",
        submitting: "Signing in…" | "Anmeldung läuft …",
        email_missing: "Enter your e-mail address." | "Geben Sie Ihre E-Mail-Adresse ein.",
        password_missing: "Enter your password." | "Geben Sie Ihr Passwort ein.",
        forgot: "Forgot your password? Your administrator can set a new one." | "Passwort vergessen? Ihre Administration kann ein neues setzen.",
        claim: "Your organisation’s own AI: answers from models that run on your machines." | "Die KI Ihrer Organisation: Antworten von Modellen, die auf Ihren eigenen Maschinen laufen.",
        point_private: "Nothing leaves the house" | "Nichts verlässt das Haus",
        point_history: "Every prompt and answer is kept for you" | "Jeder Prompt und jede Antwort bleibt Ihnen erhalten",
        point_usage: "You see what you use" | "Sie sehen, was Sie verbrauchen",
    }
}
