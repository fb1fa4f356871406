//! Form fields: label, control, hint and error, tied together for assistive technology.
//!
//! A field shows and changes a signal. What somebody typed before the page was taken over by the
//! browser code is kept: the signal adopts it (see [`keep_in_step`]).

use super::{
    button::IconButton,
    icon::{Glyph, Icon},
};
use crate::i18n::{CommonTexts, use_texts};
use leptos::{html, prelude::*};

/// What a field says about itself, apart from its value.
#[derive(Clone, Debug)]
struct FieldFrame {
    id: String,
    label: String,
    hint: Option<String>,
    error: Signal<Option<String>>,
    hide_label: bool,
}

impl FieldFrame {
    /// For `aria-describedby`: the hint and, while there is one, the error.
    fn described_by(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let (id, hint, error) = (self.id.clone(), self.hint.as_ref().is_some_and(|hint| !hint.is_empty()), self.error);
        move || match (hint, error.with(Option::is_some)) {
            (true, true) => Some(format!("{id}-error {id}-hint")),
            (false, true) => Some(format!("{id}-error")),
            (true, false) => Some(format!("{id}-hint")),
            (false, false) => None,
        }
    }

    fn around(self, control: AnyView) -> AnyView {
        let Self { id, label, hint, error, hide_label } = self;
        let hint = hint.filter(|hint| !hint.is_empty());
        let (hint_id, error_id) = (format!("{id}-hint"), format!("{id}-error"));
        view! {
            <div class="field">
                <label for=id class="field-label" class:sr-only=hide_label>
                    {label}
                </label>
                {control}
                {hint.map(|hint| view! { <p id=hint_id class="field-hint">{hint}</p> })}
                {move || {
                    let id = error_id.clone();
                    error
                        .get()
                        .map(|error| {
                            view! {
                                <p id=id class="field-error" role="alert">
                                    <Icon glyph=Glyph::Alert size=16/>
                                    <span>{error}</span>
                                </p>
                            }
                        })
                }}
            </div>
        }
        .into_any()
    }
}

/// A field of one line.
#[component]
pub fn TextField(
    /// The element's id and form name; unique on the page.
    name: &'static str,
    #[prop(into)] label: String,
    value: RwSignal<String>,
    /// The input's type: `text`, `email`, `date`, `number`, `search`.
    #[prop(default = "text")]
    kind: &'static str,
    /// What the browser may fill in.
    #[prop(default = "off")]
    autocomplete: &'static str,
    #[prop(optional, into)] placeholder: Option<String>,
    #[prop(optional, into)] hint: Option<String>,
    #[prop(optional, into)] error: Signal<Option<String>>,
    #[prop(optional)] required: bool,
    /// The label is for screen readers only (the placeholder or an icon shows what it is).
    #[prop(optional)]
    hide_label: bool,
    /// An icon inside the field.
    #[prop(optional)]
    icon: Option<Glyph>,
    /// Longest text in UTF-16 units.
    #[prop(optional)]
    max_length: Option<u32>,
    #[prop(optional)] node_ref: NodeRef<html::Input>,
) -> impl IntoView {
    let frame = FieldFrame { id: name.to_owned(), label, hint, error, hide_label };
    keep_in_step(node_ref, value);
    let control = view! {
        <div class:input-with-icon=icon.is_some()>
            {icon.map(|glyph| view! { <Icon glyph size=16/> })}
            <input
                node_ref=node_ref
                class="input"
                id=name
                name=name
                type=kind
                autocomplete=autocomplete
                placeholder=placeholder
                maxlength=max_length
                required=required
                value=value.get_untracked()
                aria-invalid=move || error.with(Option::is_some).then_some("true")
                aria-describedby=frame.described_by()
                on:input=move |event| value.set(event_target_value(&event))
            />
        </div>
    };
    frame.around(control.into_any())
}

/// A password, with a button that shows it.
#[component]
pub fn PasswordField(
    name: &'static str,
    #[prop(into)] label: String,
    value: RwSignal<String>,
    /// `current-password` or `new-password`, for password managers.
    autocomplete: &'static str,
    #[prop(optional, into)] hint: Option<String>,
    #[prop(optional, into)] error: Signal<Option<String>>,
    #[prop(optional)] node_ref: NodeRef<html::Input>,
) -> impl IntoView {
    let t = use_texts::<CommonTexts>();
    let shown = RwSignal::new(false);
    let frame = FieldFrame { id: name.to_owned(), label, hint, error, hide_label: false };
    keep_in_step(node_ref, value);
    let toggle = move || {
        if shown.get() {
            view! { <IconButton glyph=Glyph::EyeOff label=t.hide_password on:click=move |_| shown.set(false)/> }
        } else {
            view! { <IconButton glyph=Glyph::Eye label=t.show_password on:click=move |_| shown.set(true)/> }
        }
    };
    let control = view! {
        <div class="input-with-button">
            <input
                node_ref=node_ref
                class="input"
                id=name
                name=name
                type=move || if shown.get() { "text" } else { "password" }
                autocomplete=autocomplete
                spellcheck="false"
                autocapitalize="none"
                required=true
                aria-invalid=move || error.with(Option::is_some).then_some("true")
                aria-describedby=frame.described_by()
                on:input=move |event| value.set(event_target_value(&event))
            />
            {toggle}
        </div>
    };
    frame.around(control.into_any())
}

/// A field of several lines. Never give a `<textarea>` children: they are not escaped by the server's
/// renderer. The value travels with the signal and is set as a property.
#[component]
pub fn TextArea(
    name: &'static str,
    #[prop(into)] label: String,
    value: RwSignal<String>,
    #[prop(default = 4)] rows: u32,
    #[prop(optional, into)] placeholder: Option<String>,
    #[prop(optional, into)] hint: Option<String>,
    #[prop(optional, into)] error: Signal<Option<String>>,
    #[prop(optional)] hide_label: bool,
    #[prop(optional)] node_ref: NodeRef<html::Textarea>,
) -> impl IntoView {
    let frame = FieldFrame { id: name.to_owned(), label, hint, error, hide_label };
    let described_by = frame.described_by();
    let control = view! {
        <BareTextArea
            value
            node_ref
            attr:id=name
            attr:name=name
            attr:class="input"
            attr:rows=rows
            attr:placeholder=placeholder
            attr:aria-invalid=move || error.with(Option::is_some).then_some("true")
            attr:aria-describedby=described_by
        />
    };
    frame.around(control.into_any())
}

/// The `<textarea>` alone, for places with their own frame (the composer). Attributes and listeners
/// go on the component: `attr:class`, `attr:aria-label`, `on:keydown`.
#[component]
pub fn BareTextArea(value: RwSignal<String>, #[prop(optional)] node_ref: NodeRef<html::Textarea>) -> impl IntoView {
    // The effect alone writes the value: a property would be set once more, to what it was when the view was made,
    // over a draft that arrived meanwhile.
    Effect::new(move |seen: Option<bool>| {
        let wanted = value.get();
        let Some(element) = node_ref.get() else { return false };
        let current = element.value();
        // The server renders the element empty: text in it before the first run was typed by the reader.
        if seen != Some(true) && !current.is_empty() && wanted.is_empty() {
            value.set(current);
        } else if current != wanted {
            element.set_value(&wanted);
        }
        true
    });
    view! { <textarea node_ref=node_ref on:input=move |event| value.set(event_target_value(&event))></textarea> }.into_any()
}

/// A choice from a list; `options` are (value, label).
#[component]
pub fn Select(
    name: &'static str,
    #[prop(into)] label: String,
    value: RwSignal<String>,
    #[prop(into)] options: Signal<Vec<(String, String)>>,
    #[prop(optional, into)] hint: Option<String>,
    #[prop(optional, into)] error: Signal<Option<String>>,
    #[prop(optional)] hide_label: bool,
) -> impl IntoView {
    let node = NodeRef::<html::Select>::new();
    let frame = FieldFrame { id: name.to_owned(), label, hint, error, hide_label };
    Effect::new(move |_| {
        let wanted = value.get();
        options.track();
        if let Some(element) = node.get()
            && element.value() != wanted
        {
            element.set_value(&wanted);
        }
    });
    let items = move || {
        let chosen = value.get_untracked();
        options
            .get()
            .into_iter()
            .map(|(key, label)| {
                let selected = key == chosen;
                view! { <option value=key selected=selected>{label}</option> }
            })
            .collect_view()
    };
    let control = view! {
        <select
            node_ref=node
            class="input select"
            id=name
            name=name
            aria-invalid=move || error.with(Option::is_some).then_some("true")
            aria-describedby=frame.described_by()
            on:change=move |event| value.set(event_target_value(&event))
        >
            {items}
        </select>
    };
    frame.around(control.into_any())
}

/// A number on a scale. `show` puts the current value into words; it is also what is read aloud.
#[component]
pub fn Slider(
    name: &'static str,
    #[prop(into)] label: String,
    value: RwSignal<f32>,
    min: f32,
    max: f32,
    step: f32,
    #[prop(into)] show: Callback<f32, String>,
    #[prop(optional, into)] hint: Option<String>,
) -> impl IntoView {
    let hint_id = format!("{name}-hint");
    let described_by = hint.is_some().then(|| hint_id.clone());
    view! {
        <div class="field">
            <div class="flex items-baseline justify-between gap-3">
                <label for=name class="field-label">
                    {label}
                </label>
                <output for=name class="text-sm text-soft tabular-nums">
                    {move || show.run(value.get())}
                </output>
            </div>
            <input
                class="slider"
                type="range"
                id=name
                name=name
                min=min
                max=max
                step=step
                value=value.get_untracked()
                prop:value=move || value.get().to_string()
                aria-valuetext=move || show.run(value.get())
                aria-describedby=described_by
                on:input=move |event| {
                    if let Ok(number) = event_target_value(&event).parse() {
                        value.set(number);
                    }
                }
            />
            {hint.map(|hint| view! { <p id=hint_id class="field-hint">{hint}</p> })}
        </div>
    }
    .into_any()
}

/// The signal follows the element (by its input event) and the element the signal. On the first run
/// an element that no longer has the value it was rendered with was edited before hydration, or
/// filled by the browser: its text wins.
fn keep_in_step(node: NodeRef<html::Input>, value: RwSignal<String>) {
    Effect::new(move |seen: Option<bool>| {
        let wanted = value.get();
        let Some(element) = node.get() else { return false };
        let current = element.value();
        if seen != Some(true) && current != element.default_value() {
            value.set(current);
        } else if current != wanted {
            element.set_value(&wanted);
        }
        true
    });
}
