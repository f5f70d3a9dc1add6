package android.widget;

public class TextView extends android.view.View {
    public TextView(android.content.Context context) {}

    public CharSequence getText() { return null; }

    public final void setText(CharSequence text) {}

    public final CharSequence getHint() { return null; }

    public final void setHint(CharSequence hint) {}

    public int getInputType() { return 0; }

    public void setInputType(int type) {}

    public int getMaxLines() { return 0; }

    public void setMaxLines(int maxLines) {}

    public void setTextIsSelectable(boolean selectable) {}
}
